"""Layers with parameters, statistics, randomness or a change of shape."""
