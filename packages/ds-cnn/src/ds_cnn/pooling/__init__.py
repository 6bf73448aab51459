"""Pooling: windows of an image become one number each."""
