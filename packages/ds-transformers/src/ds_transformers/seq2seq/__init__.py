"""From sequence to sequence: the Transformer for text, from tokens to logits."""
