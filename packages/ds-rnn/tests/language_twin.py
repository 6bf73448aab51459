"""The language model of torch.nn's parts, and the recipe `char-rnn` of torch.optim's; benchmarks use them too."""

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR


class LanguageModelTwin(torch.nn.Module):
    """The network of an `RNNLanguageModel` with its weights, in float64."""

    def __init__(self, model):
        super().__init__()
        config = model.config
        self.tokens = torch.nn.Embedding(config.vocab_size, config.embed_dim)
        kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[config.cell]
        self.layers = kind(config.embed_dim, config.hidden_size, config.num_layers, batch_first=True)
        self.head = torch.nn.Linear(config.hidden_size, config.vocab_size)
        self.double()
        known = self.state_dict()
        self.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if name in known})

    def forward(self, tokens, state):
        y, state = self.layers(self.tokens(tokens), state)
        return self.head(y), state


def detached(state):
    return tuple(tensor.detach() for tensor in state) if isinstance(state, tuple) else state.detach()


def twin_steps(twin, run):
    """Train the twin as `run`, a prepared `CharRNNRun` without dropout, says; yields each loss and gradient norm."""
    options = run.options
    matrices = [tensor for tensor in twin.parameters() if tensor.dim() > 1]
    vectors = [tensor for tensor in twin.parameters() if tensor.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=options.lr,
    )
    warmup = min(options.warmup_steps, run.steps // 10)
    schedule = CosineAnnealingLR(optimizer, run.steps - warmup, options.min_lr)
    if warmup > 0:
        rising = LinearLR(optimizer, 1 / (warmup + 1), total_iters=warmup)
        schedule = SequentialLR(optimizer, [rising, schedule], [warmup])
    state = None
    for step in range(run.steps):
        (tokens, carry), targets = run.batches.batch(step)
        if not carry.any():
            state = None
        logits, state = twin(tokens, state)
        state = detached(state)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(twin.parameters(), options.clip_norm or float("inf"))
        optimizer.step()
        schedule.step()
        yield float(loss.detach()), float(norm)
