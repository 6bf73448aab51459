"""A model that translates without order, attention or recurrence: as little as the recipes of translation ask for."""

from ds_core import Dropout, Embedding, Linear, Module


class WordModel(Module):
    """The next token from the token before it and the mean of the source's embeddings: source (B, S), target (B, T).

    Its gradients are written by hand, and it can be asked step by step (a `StepwiseDecoder`).
    """

    def __init__(self, source_vocab, target_vocab, embed_dim, dropout=0.0, dtype=None):
        self.source_tokens = Embedding(source_vocab, embed_dim, dtype=dtype)
        self.target_tokens = Embedding(target_vocab, embed_dim, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.projection = Linear(embed_dim, target_vocab, dtype=dtype)

    def forward(self, source, target):
        share = self.shares(source)
        context = (self.source_tokens.forward(source) * share).sum(1, keepdim=True)  # (B, 1, E)
        x = self.target_tokens.forward(target) + context
        self.save(share)
        return self.projection.forward(self.dropout.forward(x))

    def backward(self, dlogits):
        dx = self.dropout.backward(self.projection.backward(dlogits))
        (share,) = self.saved()
        self.target_tokens.backward(dx)
        self.source_tokens.backward(dx.sum(1, keepdim=True) * share)

    def shares(self, source):
        """What each source token counts in the mean: padding nothing. (B, S, 1)"""
        words = (source != 0).to(self.projection.weight.dtype)
        return (words / words.sum(1, keepdim=True)).unsqueeze(2)

    def start(self, source, width):
        context = (self.source_tokens.forward(source) * self.shares(source)).sum(1)
        return {"context": context.repeat_interleave(width, 0)}

    def step(self, tokens, state):
        return self.projection.forward(self.target_tokens.forward(tokens) + state["context"])

    def select(self, state, rows):
        state["context"] = state["context"][rows]


def sentences(path):
    """A file of 75 pairs that such a model can learn: the words of a source tell the target, order included."""
    nouns, verbs = ["ant", "bee", "cat", "dog", "emu"], ["sees", "hears", "likes", "meets", "helps"]
    pairs = [(one, other) for index, one in enumerate(nouns) for other in nouns[index:]]
    rows = [
        f"{one} {verb} {other}\t{one.upper()} {other.upper()} {verb.upper()}" for one, other in pairs for verb in verbs
    ]
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return path
