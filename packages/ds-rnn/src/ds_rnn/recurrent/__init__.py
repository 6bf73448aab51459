"""Recurrent cells and layers, and what makes backpropagation through time of them."""
