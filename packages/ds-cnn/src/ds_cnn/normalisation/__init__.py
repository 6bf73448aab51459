"""Norms of images."""
