"""The trace, the base class of layers, composition, and what elementwise functions are written with."""
