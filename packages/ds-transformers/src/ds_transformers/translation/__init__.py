"""The recipe `translate`: a Transformer that learns to translate, and what its attention looked at."""
