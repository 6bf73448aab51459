"""What surrounds an image."""
