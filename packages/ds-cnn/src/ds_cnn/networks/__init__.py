"""Convolutional networks that people know by name."""
