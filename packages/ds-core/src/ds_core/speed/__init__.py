"""Everything that is there for speed alone. A reader who wants the mathematics may skip this folder."""
