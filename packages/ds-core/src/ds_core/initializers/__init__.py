"""Initializers: what weights are before training."""
