"""Where a token stands: vectors added, rotated in or added to the scores."""
