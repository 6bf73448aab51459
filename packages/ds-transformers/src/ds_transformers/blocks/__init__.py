"""Layers made of attention, norms and feed-forward networks, and stacks of them."""
