"""Convolutions and transposed convolutions, to read and to run."""
