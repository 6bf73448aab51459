"""Optimizers, and clipping."""
