"""The loop, its callbacks, checkpoints and logs."""
