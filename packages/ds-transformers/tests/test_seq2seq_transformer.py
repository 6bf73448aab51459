import dataclasses
import math

import pytest
import torch
from attention_twins import without_key_bias
from ds_core import AdamW, ShapeError, TokenCrossEntropy, no_record, primitives_only, record
from ds_core.testing import check_layer, pairwise
from ds_transformers import Seq2SeqConfig, Seq2SeqTransformer, beam_search, greedy, sinusoidal_encoding
from torch.nn.functional import log_softmax

TINY = Seq2SeqConfig(
    11, 11, embed_dim=8, num_heads=2, dim_feedforward=12, num_encoder_layers=2, num_decoder_layers=2, dropout=0.0
)


def some_tokens(seed=0, source=5, target=4, vocab=9):
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randint(1, vocab, (3, size), generator=generator) for size in (source, target))
    first[1, 3:] = 0
    return first, second


class Twin(torch.nn.Module):
    """The same model of torch.nn's parts."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.source_tokens = torch.nn.Embedding(config.source_vocab, config.embed_dim)
        shared = self.source_tokens if config.shared else torch.nn.Embedding(config.target_vocab, config.embed_dim)
        self.target_tokens = shared
        self.transformer = torch.nn.Transformer(
            config.embed_dim,
            config.num_heads,
            config.num_encoder_layers,
            config.num_decoder_layers,
            config.dim_feedforward,
            0.0,
            config.activation,
            batch_first=True,
            norm_first=config.norm_first,
        )
        self.transformer.encoder.enable_nested_tensor = False
        self.projection = None
        if not config.tied:
            self.projection = torch.nn.Parameter(torch.empty(config.target_vocab, config.embed_dim))

    def embed(self, embedding, tokens):
        x = embedding(tokens) * math.sqrt(self.config.embed_dim)
        return x + sinusoidal_encoding(tokens.shape[1], self.config.embed_dim, dtype=x.dtype)

    def forward(self, source, target):
        padding = source == self.config.pad
        x, y = self.embed(self.source_tokens, source), self.embed(self.target_tokens, target)
        mask = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        options = {"tgt_mask": mask, "src_key_padding_mask": padding, "memory_key_padding_mask": padding}
        weight = self.target_tokens.weight if self.projection is None else self.projection
        return self.transformer(x, y, **options) @ weight.t()


@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
def test_ten_steps_like_the_twin(norm_first, shared, tied):
    config = dataclasses.replace(
        TINY, target_vocab=11 if shared else 10, norm_first=norm_first, shared=shared, tied=tied, activation="gelu"
    )
    torch.manual_seed(0)
    ours = Seq2SeqTransformer(config, dtype=torch.float64)
    theirs = Twin(config).double()
    theirs.load_state_dict(ours.state_dict())
    source, target = some_tokens()
    following = target.roll(-1, 1)
    following[0, 2:] = 0
    settings = {"lr": 1e-2, "weight_decay": 0.1, "eps": 1e-6}
    optimizer, other = AdamW(ours.parameters(), **settings), torch.optim.AdamW(theirs.parameters(), **settings)
    criterion = TokenCrossEntropy(ignore_index=0, label_smoothing=0.1)
    for _ in range(10):
        with record():
            loss = criterion(ours(source, target), following)
            ours.backward(criterion.backward())
        optimizer.step()
        optimizer.zero_grad()
        logits = theirs(source, target).flatten(0, 1)
        expected = torch.nn.functional.cross_entropy(logits, following.flatten(), ignore_index=0, label_smoothing=0.1)
        expected.backward()
        other.step()
        other.zero_grad()
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-11, atol=0)
    for name, tensor in theirs.state_dict().items():
        found, expected = (without_key_bias(name, given) for given in (ours.state_dict()[name], tensor))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    "options", pairwise({"shared": [True, False], "tied": [True, False], "recompute": [False, True]}), ids=str
)
def test_gradients(options):
    shared, layers = options["shared"], {"num_encoder_layers": 1, "num_decoder_layers": 1}  # test_encoder.py has stacks
    config = dataclasses.replace(
        TINY, target_vocab=11 if shared else 9, shared=shared, tied=options["tied"], dropout=0.2, **layers
    )
    check_layer(Seq2SeqTransformer(config, recompute=options["recompute"]), *some_tokens(), samples=4)


def test_worked_example():
    """Width 2: W = ((0, 0), (1, 0), (0, 1)). Token 1 becomes sqrt(2) (1, 0) + (0, 1), and (2) compares it with W."""
    waves = torch.tensor([[0.0, 1.0], [0.8415, 0.5403]], dtype=torch.float64)
    torch.testing.assert_close(sinusoidal_encoding(2, 2, dtype=torch.float64), waves, rtol=0, atol=5e-5)
    config = Seq2SeqConfig(
        3, 3, embed_dim=2, num_heads=1, dim_feedforward=1, num_encoder_layers=1, num_decoder_layers=1, dropout=0.0
    )
    model = Seq2SeqTransformer(config, dtype=torch.float64)
    weight = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    model.load_state_dict(model.state_dict() | {"source_tokens.weight": weight, "target_tokens.weight": weight})
    with no_record():
        x = model._embed(model.source_tokens, model.source_dropout, torch.tensor([[1, 2]]))[0]
    expected = torch.tensor([[1.4142, 1.0], [0.8415, 1.9545]], dtype=torch.float64)
    torch.testing.assert_close(x, expected, rtol=0, atol=5e-5)
    # the head alone: y and dlogits given
    y, dlogits = torch.tensor([[[2.0, -1.0]]]), torch.tensor([[[0.5, -0.25, -0.25]]])
    y, dlogits = y.double(), dlogits.double()
    torch.testing.assert_close(y @ weight.t(), torch.tensor([[[0.0, 2.0, -1.0]]], dtype=torch.float64))
    with record():
        model.save(y)
        dy = model._projection_backward(dlogits)
    assert dy.tolist() == [[[-0.25, -0.25]]]
    assert model.target_tokens.weight.grad.tolist() == [[1.0, -0.5], [-0.5, 0.25], [-0.5, 0.25]]


def test_the_projection_adds_to_the_embeddings_gradient():
    model = Seq2SeqTransformer(TINY, dtype=torch.float64)
    source, target = some_tokens(vocab=5)
    with record():
        logits = model(source, target)
        model.backward(torch.ones_like(logits))
    assert bool((model.source_tokens.weight.grad[9] != 0).all())  # never a source or a target token
    assert model.source_tokens is model.target_tokens


def test_padding_changes_nothing():
    model = Seq2SeqTransformer(TINY, dtype=torch.float64).eval()
    source, target = some_tokens()
    with no_record():
        short = model(source[1:2, :3], target[1:2])
        torch.testing.assert_close(model(source, target)[1:2], short, rtol=1e-12, atol=1e-12)


def test_a_token_sees_none_that_follows():
    model = Seq2SeqTransformer(TINY).eval()
    source, target = some_tokens()
    other = target.clone()
    other[:, 2:] = 9
    with no_record():
        assert torch.equal(model(source, target)[:, :2], model(source, other)[:, :2])


def test_primitives_in_a_whole_step():
    model = Seq2SeqTransformer(TINY)
    criterion, optimizer = TokenCrossEntropy(ignore_index=0, label_smoothing=0.1), AdamW(model.parameters())
    source, target = some_tokens()
    with primitives_only() as operations:
        with record():
            criterion(model(source, target), target)
            model.backward(criterion.backward())
        optimizer.step()
    assert operations["bmm"] > 0


def sharp(seed=0, **changes):
    """A model whose next token depends on what came before."""
    torch.manual_seed(seed)
    model = Seq2SeqTransformer(dataclasses.replace(TINY, **changes), dtype=torch.float64).eval()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.mul_(2.5)
    return model


@pytest.mark.parametrize(("seed", "share_weights"), [(8, False), (10, True)])
def test_greedy_takes_the_likeliest_token_of_the_whole(seed, share_weights):
    """With caches, batched, longer than the caches' first room, and sentences that end early."""
    model = sharp(seed, share_weights=share_weights)
    source, _ = some_tokens(seed=3)
    found = greedy(model, source, begin=1, end=2, pad=0, max_length=40)
    assert sorted(map(len, found)) == [0, 40, 40]
    for row, tokens in zip(source, found, strict=True):
        with no_record():
            logits = model(row[None], torch.tensor([[1, *tokens]]))[0]
        logits[:, 0] = -math.inf
        best = logits.argmax(1).tolist()
        assert best[: len(tokens)] == tokens
        assert len(tokens) == 40 or best[len(tokens)] == 2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_beams_have_the_log_probability_of_the_whole(seed):
    model = sharp(seed)
    source, _ = some_tokens(seed=seed)
    results = beam_search(model, source, begin=1, end=2, pad=0, max_length=12, beam_size=3, return_all=True)
    one_by_one = [
        beam_search(model, row[None], begin=1, end=2, pad=0, max_length=12, beam_size=3, return_all=True)[0]
        for row in source
    ]
    for row, hypotheses, alone in zip(source, results, one_by_one, strict=True):
        assert [hypothesis.tokens for hypothesis in hypotheses] == [hypothesis.tokens for hypothesis in alone]
        for hypothesis in hypotheses:
            whole = [*hypothesis.tokens, 2] if hypothesis.finished else hypothesis.tokens
            with no_record():
                logits = model(row[None], torch.tensor([[1, *hypothesis.tokens]]))[0]
            logs = log_softmax(logits, 1)
            total = sum(float(logs[index, token]) for index, token in enumerate(whole))
            assert hypothesis.log_probability == pytest.approx(total, abs=1e-9)


def test_first_values_have_variance_one_after_scaling():
    model = Seq2SeqTransformer(
        Seq2SeqConfig(
            5000, 5000, embed_dim=64, num_heads=4, dim_feedforward=8, num_encoder_layers=1, num_decoder_layers=1
        )
    )
    assert float(model.source_tokens.weight.detach().std()) * 8 == pytest.approx(1, abs=0.02)


def test_a_generator_leaves_the_default_one_alone():
    state = torch.get_rng_state()
    first, second = (Seq2SeqTransformer(TINY, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "3 heads do not divide an embed_dim of 8"),
        ({"num_encoder_layers": 0}, "num_encoder_layers is 0"),
        ({"target_vocab": 12}, "a shared embedding needs one vocabulary"),
        ({"pad": 11}, "pad is 11"),
    ],
)
def test_impossible_sizes(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **changes)


@pytest.mark.parametrize("shapes", [((3, 5), (2, 4)), ((5,), (4,)), ((3, 5, 1), (3, 4))])
def test_inputs_that_do_not_fit_are_named(shapes):
    source, target = (torch.ones(shape, dtype=torch.int64) for shape in shapes)
    with pytest.raises(ShapeError, match=r"given source .* and target .*, expected \(B, S\) and \(B, T\)"):
        Seq2SeqTransformer(TINY)(source, target)


def test_empty_targets_have_no_logits():
    model = Seq2SeqTransformer(TINY)
    source, _ = some_tokens()
    with record():
        logits = model(source, torch.empty(3, 0, dtype=torch.int64))
        model.backward(torch.empty_like(logits))
    assert logits.shape == (3, 0, 11)
