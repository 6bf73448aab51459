"""Data sets by name, files of the user's, splits, scaling, and batches that can be entered anywhere."""
