"""From sequence to sequence: searching for the likeliest output, and averaging checkpoints."""
