"""The language model and its writing; `RNNLanguageModel` against torch.nn with `detach` between windows."""

import pytest
import torch
from ds_core import SGD, CrossEntropyLoss, ShapeError, TokenCrossEntropy, record
from ds_core.testing import one_graph
from ds_rnn import LanguageModelConfig, RNNLanguageModel, TextStreams, write
from language_twin import LanguageModelTwin, detached

CELLS = ("lstm", "gru", "rnn")


def model_of(cell, streams=0, dtype=torch.float64, dropout=0.0):
    config = LanguageModelConfig(7, 4, 5, 2, cell, dropout)
    return RNNLanguageModel(config, streams, dtype=dtype, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("cell", CELLS)
def test_ten_steps_of_truncated_backpropagation_equal_those_of_torch(cell):
    model = model_of(cell, streams=3)
    twin = LanguageModelTwin(model)
    ours, theirs = SGD(model.parameters(), lr=0.5), torch.optim.SGD(twin.parameters(), lr=0.5)
    text, state = torch.randint(7, (3, 41), generator=torch.Generator().manual_seed(1)), None
    for step in range(10):
        if step == 6:
            state = None
        tokens, targets = text[:, 4 * step : 4 * step + 4], text[:, 4 * step + 1 : 4 * step + 5]
        criterion = TokenCrossEntropy()
        ours.zero_grad()
        with record():
            carry = torch.full((3,), float(step not in (0, 6)), dtype=torch.float64)
            loss = criterion(model(tokens, carry), targets)
            model.backward(criterion.backward())
        ours.step()
        theirs.zero_grad()
        logits, state = twin(tokens, state)
        state = detached(state)
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        expected.backward()
        theirs.step()
        torch.testing.assert_close(loss, expected.detach())
    for (name, tensor), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(tensor.detach(), other.detach(), msg=name)
    kept = state if isinstance(state, tuple) else (state,)
    for ours_kept, theirs_kept in zip(model._carried(), kept, strict=True):
        torch.testing.assert_close(ours_kept, theirs_kept)


def test_worked_example():
    # docs/language_model.md: two windows of one token, and both tokens at once
    def gradients(*windows):
        model = RNNLanguageModel(LanguageModelConfig(2, 1, 1, 1, "rnn"), 1, dtype=torch.float64)
        states, layers = [], model.layers
        weights = {model.tokens.weight: [0.5, -0.5], layers.weight_ih_l0: [1.0], layers.weight_hh_l0: [0.5]}
        weights |= {layers.bias_ih_l0: [0.0], layers.bias_hh_l0: [0.0], model.head.weight: [1.0, 0.0]}
        for weight, values in weights.items():
            weight.data.copy_(torch.tensor(values, dtype=torch.float64).view_as(weight))
        model.carried_h.fill_(1)
        for tokens in windows:
            with record():
                model(torch.tensor([tokens]), torch.ones(1, dtype=torch.float64))
                dlogits = torch.zeros(1, len(tokens), 2, dtype=torch.float64)
                dlogits[:, :, 0] = 1
                model.backward(dlogits)
            states.append(model.carried_h.item())
        return states, layers.weight_ih_l0.grad.item(), layers.weight_hh_l0.grad.item()

    states, *truncated = gradients([0], [1])
    assert states == pytest.approx([0.7616, -0.1186], abs=5e-5)
    assert truncated == pytest.approx([-0.2830, 1.1708], abs=5e-5)
    (last,), *whole = gradients([0, 1])
    assert last == states[1]
    assert whole == pytest.approx([-0.1795, 1.3779], abs=5e-5)

    slopes = [1 - state**2 for state in states]
    assert slopes == pytest.approx([0.4200, 0.9859], abs=5e-5)
    thrown_away = 0.5 * slopes[1]
    assert thrown_away == pytest.approx(0.4930, abs=5e-5)
    assert (1 + thrown_away) * slopes[0] == pytest.approx(0.6270, abs=5e-5)
    lacking = [thrown_away * slopes[0] * factor for factor in (0.5, 1)]
    assert lacking == pytest.approx([0.1035, 0.2070], abs=5e-5)
    assert [one - other for one, other in zip(whole, truncated, strict=True)] == pytest.approx(lacking, abs=1e-12)


def most_kept(model, text, window):
    """Train on the text once, window after window -> the most bytes that a step keeps for its backward."""
    batches, optimizer, most = TextStreams(text, window, 10), SGD(model.parameters(), lr=0.1), 0
    for index in range(batches.steps_per_epoch):
        inputs, targets = batches.batch(index)
        criterion = TokenCrossEntropy()
        with record() as trace:
            criterion(model(*inputs), targets)
            most = max(most, sum(line.bytes for line in trace.kept()))
            model.backward(criterion.backward())
        optimizer.step()
        optimizer.zero_grad()
    return most


@pytest.mark.parametrize("cell", CELLS)
def test_windows_keep_memory_constant_and_the_whole_text_does_not(cell):
    model = model_of(cell, streams=10, dtype=torch.float32)
    texts = [torch.randint(7, (length,), generator=torch.Generator().manual_seed(1)) for length in (200, 2000, 20_000)]
    windows = [most_kept(model, text, 19) for text in texts]
    assert windows == [windows[0]] * 3
    steps = [len(text) // 10 - 1 for text in texts]  # of each stream: all of it is one window
    whole = [most_kept(model, text, count) for text, count in zip(texts, steps, strict=True)]
    assert whole[0] == windows[0]
    # a number of bytes for each step and some more, exactly
    assert (whole[1] - whole[0]) * (steps[2] - steps[1]) == (whole[2] - whole[1]) * (steps[1] - steps[0])
    assert whole[2] > 100 * whole[0]


def test_without_carry_every_row_begins():
    model = model_of("lstm", streams=2)
    tokens = torch.randint(7, (2, 4))
    first = model(tokens).detach()
    model(tokens, torch.ones(2, dtype=torch.float64))
    assert model.carried_h.abs().min() > 0
    assert not model.carried_h.requires_grad  # autograd does not go back beyond the window either
    assert torch.equal(model(tokens).detach(), first)


def test_rows_of_another_number_are_refused():
    model = model_of("gru", streams=2)
    for tokens, carry in ((3, 3), (2, 3), (3, 2)):
        given = rf"given tokens \({tokens}, 4\) and carry \({carry},\), expected \(B, T\) and \(B,\) with B = 2"
        with pytest.raises(ShapeError, match=given):
            model(torch.zeros(tokens, 4, dtype=torch.int64), torch.ones(carry))
    with pytest.raises(ShapeError, match=r"given tokens \(4,\), expected \(B, T\)"):
        model(torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "lst"}, "cell is 'lst', expected one of"),
        ({"hidden_size": 0}, "hidden_size is 0, expected at least 1"),
    ],
)
def test_configurations_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        LanguageModelConfig(**{"vocab_size": 7, **change})


def test_a_model_that_only_writes_passes_over_the_carried_state():
    trained = model_of("lstm", streams=2)
    trained(torch.randint(7, (2, 4)), torch.zeros(2, dtype=torch.float64))
    writer = model_of("lstm")
    writer.load_state_dict(trained.state_dict())
    assert "carried_h" not in writer.state_dict()


def test_the_step_is_one_graph():
    model = model_of("lstm", streams=2, dtype=torch.float32)
    criterion, optimizer = CrossEntropyLoss(), SGD(model.parameters(), lr=0.1)
    tokens, targets = torch.randint(7, (2, 3)), torch.randint(7, (2, 3))

    def step():
        optimizer.zero_grad()
        with record():
            loss = criterion(model(tokens, torch.ones(2)).flatten(0, 1), targets.flatten())
            model.backward(criterion.backward().view(2, 3, 7))
        optimizer.step()
        return loss

    one_graph(step)


@pytest.mark.parametrize("cell", CELLS)
def test_writing_equals_reading_the_whole_text_again(cell):
    """Greedy writing step by step, against a forward over all that has been written so far."""
    model = model_of(cell)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.mul_(4)
    prompt = torch.tensor([1, 2, 3])
    written = list(write(model, prompt, 12, temperature=0))
    text = prompt.tolist()
    for token in written:
        logits = model.eval()(torch.tensor([text])).detach()
        assert int(logits[0, -1].argmax()) == token
        text.append(token)


def test_writing_leaves_modes_and_generators_alone():
    model = model_of("lstm", dropout=0.5)
    state = torch.get_rng_state()
    texts = [list(write(model.train(), torch.tensor([1]), 20, seed=seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt": torch.tensor([], dtype=torch.int64)}, "at least 1 token"),
        ({"prompt": torch.tensor([7])}, "outside 0 to 6"),
        ({"count": -1}, "given count=-1, expected 0 or more"),
        ({"temperature": -1.0}, "write: temperature is -1.0"),
        ({"top_k": 0}, "write: top_k is 0"),
    ],
)
def test_writing_with_arguments_that_make_no_sense(given, message):
    with pytest.raises(ValueError, match=message):
        write(model_of("gru"), **{"prompt": torch.tensor([1]), "count": 3, **given})
