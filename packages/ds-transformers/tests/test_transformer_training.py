import pytest
import torch
from attention_twins import without_key_bias
from ds_core import AdamW, CrossEntropyLoss, Embedding, Linear, Module, no_record, record
from ds_transformers import SinusoidalPositions, Transformer

PADDING, END, COPY, REVERSE, FIRST = range(5)
SYMBOLS, LONGEST = 8, 6


@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
@pytest.mark.parametrize("masked", [False, True])
def test_ten_steps_follow_pytorch(masked, norm_first):
    options = {"dropout": 0.0, "batch_first": True, "norm_first": norm_first, "dtype": torch.float64}
    ours, theirs = (cls(16, 4, 2, 2, 24, **options) for cls in (Transformer, torch.nn.Transformer))
    ours.load_state_dict(theirs.state_dict())
    first = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    optimizers = AdamW(ours.parameters(), lr=1e-2), torch.optim.AdamW(theirs.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        src, tgt, wanted = (torch.randn(5, n, 16, generator=generator, dtype=torch.float64) for n in (6, 4, 4))
        masks = {}
        if masked:
            source, target = (torch.arange(n) >= torch.randint(1, n + 1, (5, 1), generator=generator) for n in (6, 4))
            masks = {
                "tgt_mask": torch.ones(4, 4, dtype=torch.bool).triu(1),
                "src_key_padding_mask": source,
                "memory_key_padding_mask": source,
                "tgt_key_padding_mask": target,
            }
        for optimizer in optimizers:
            optimizer.zero_grad()
        with record():
            y = ours(src, tgt, **masks)
            ours.backward(2 * (y - wanted) / y.numel(), input_gradient=False)
        loss = (theirs(src, tgt, **masks) - wanted).pow(2).mean()
        loss.backward()
        assert (y - wanted).pow(2).mean().item() == pytest.approx(loss.item(), rel=1e-9)
        for optimizer in optimizers:
            optimizer.step()
    for name, tensor in theirs.state_dict().items():
        found, expected = (without_key_bias(name, given) for given in (ours.state_dict()[name], tensor))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9, msg=lambda text, n=name: f"{n} {text}")
        assert (tensor - first[name]).abs().max() > 1e-3


class Writer(Module):
    """Source and target, tokens of one vocabulary, to logits for each target token's successor."""

    def __init__(self, vocabulary, width):
        self.embedding = Embedding(vocabulary, width)
        self.positions = SinusoidalPositions(width)
        self.transformer = Transformer(width, 4, 1, 1, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.projection = Linear(width, vocabulary)

    def forward(self, src, tgt):
        padding = src == PADDING
        masks = {"src_key_padding_mask": padding, "memory_key_padding_mask": padding}
        masks["tgt_mask"] = torch.ones(tgt.shape[1], tgt.shape[1], dtype=torch.bool).triu(1)
        return self.projection.forward(self.transformer.forward(self._embed(src), self._embed(tgt), **masks))

    def backward(self, dlogits):
        dsrc, dtgt = self.transformer.backward(self.projection.backward(dlogits))
        for gradient in (dtgt, dsrc):  # the last one embedded first
            self.embedding.backward(self.positions.backward(gradient))

    def _embed(self, tokens):
        return self.positions.forward(self.embedding.forward(tokens))


def train(model, batches, learning_rates):
    """Steps of AdamW by teacher forcing; returns the last loss."""
    optimizer = AdamW(model.parameters(), weight_decay=0.0)
    criterion = CrossEntropyLoss(ignore_index=PADDING)
    for (src, answer), rate in zip(batches, learning_rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        before = torch.cat([torch.full((len(src), 1), END), answer[:, :-1]], 1)
        optimizer.zero_grad()
        with record():
            logits = model(src, before)
            loss = criterion(logits.flatten(0, 1), answer.flatten())
            model.backward(criterion.backward().view_as(logits))
        optimizer.step()
    return loss.item()


def write(model, src, length):
    """The likeliest token each time, given those that the model wrote before."""
    written = torch.full((len(src), 1), END)
    with no_record():
        for _ in range(length):
            written = torch.cat([written, model(src, written)[:, -1].argmax(-1, keepdim=True)], 1)
    return written[:, 1:]


def task(examples, generator):
    """Sources (N, 1 + LONGEST), COPY or REVERSE and then 1 to LONGEST symbols; answers, each with an END."""
    lengths = torch.randint(1, LONGEST + 1, (examples, 1), generator=generator)
    symbols = torch.randint(FIRST, FIRST + SYMBOLS, (examples, LONGEST), generator=generator)
    backwards = torch.randint(2, (examples, 1), generator=generator).bool()
    index = torch.arange(LONGEST)
    inside = index < lengths
    turned = symbols.gather(1, (lengths - 1 - index).clamp(min=0))
    answer = torch.where(inside, torch.where(backwards, turned, symbols), PADDING)
    answer = torch.cat([answer, torch.full((examples, 1), PADDING)], 1).scatter(1, lengths, END)
    return torch.cat([torch.where(backwards, REVERSE, COPY), symbols.masked_fill(~inside, PADDING)], 1), answer


def test_one_batch_is_learned_by_heart():
    """Random answers, which nothing but memory can give."""
    torch.manual_seed(0)
    src, answer = (torch.randint(FIRST, FIRST + SYMBOLS, (8, 5)) for _ in range(2))
    model = Writer(FIRST + SYMBOLS, 32)
    assert train(model, [(src, answer)] * 120, [5e-3] * 120) < 0.02
    assert torch.equal(write(model, src, 5), answer)


def test_copies_and_reverses_what_it_has_never_seen():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    steps = 700
    batches = [task(64, generator) for _ in range(steps)]
    rates = [3e-3 * min(1, (step + 1) / 100, 2 * (steps - step) / steps) for step in range(steps)]
    model = Writer(FIRST + SYMBOLS, 32)
    train(model, batches, rates)
    seen = {tuple(row) for src, _ in batches for row in src.tolist()}
    src, answer = task(2000, torch.Generator().manual_seed(2))
    new = torch.tensor([tuple(row) not in seen for row in src.tolist()])
    src, answer = src[new], answer[new]
    assert len(src) > 500
    for order in (COPY, REVERSE):
        lengths = (src[src[:, 0] == order] != PADDING).sum(1) - 1
        assert lengths.max() == LONGEST
    written = write(model, src, LONGEST + 1).masked_fill(answer == PADDING, PADDING)
    assert torch.equal(written, answer)
