"""What `ds train` can train with this package."""
