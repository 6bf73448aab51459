"""Translation: pairs of sentences, tokens, and batches of about as many tokens each."""
