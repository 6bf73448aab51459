"""Scaled dot-product attention, and the layers of many heads around it."""
