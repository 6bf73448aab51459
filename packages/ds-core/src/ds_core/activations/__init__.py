"""Functions applied number by number, and those over one dimension."""
