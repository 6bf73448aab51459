"""Labels for sequences and for their steps."""
