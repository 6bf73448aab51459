"""Writing token by token: what a model offers, the greedy choice, beam search."""
