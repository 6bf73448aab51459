"""Language models: a recurrent network that predicts the next token of a text."""
