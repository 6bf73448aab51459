"""Text for models: tokenizers, pairs of sentences, batches by tokens, scores, decoding."""
