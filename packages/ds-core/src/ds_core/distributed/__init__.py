"""Training by several processes, which average their gradients. Theory: docs/distributed.md."""
