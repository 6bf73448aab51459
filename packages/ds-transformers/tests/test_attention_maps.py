"""What a decoder looked at, as tensors and as a picture."""

import dataclasses
import math
import sys
import warnings

import pytest
import torch
from ds_core import no_record
from ds_core.errors import MissingPackageError, WriteError
from ds_transformers import CrossAttention, Seq2SeqConfig, Seq2SeqTransformer
from ds_transformers.translation.attention_maps import cross_attention_maps, plot_attention
from ds_transformers.translation.recipe import TranslateRun


def model_of(implementation="vectorized", recompute=False, **changes):
    sizes = {"embed_dim": 8, "num_heads": 2, "dim_feedforward": 12, "num_encoder_layers": 1, "num_decoder_layers": 2}
    sizes |= {"dropout": 0.5, **changes}
    generator = torch.Generator().manual_seed(0)
    options = {"implementation": implementation, "recompute": recompute, "generator": generator}
    return Seq2SeqTransformer(Seq2SeqConfig(11, 11, **sizes), dtype=torch.float64, **options)


SOURCE = torch.tensor([[3, 4, 5, 2], [6, 2, 0, 0]])
TARGET = torch.tensor([[1, 7, 8], [1, 9, 0]])


def expected_maps(model, monkeypatch):
    """softmax(Q K^T / sqrt(D)), recomputed from what every cross-attention is given."""
    found, forward = [], CrossAttention.forward

    def watched(layer, x, memory, key_padding_mask=None, **options):
        width = layer.embed_dim
        query, key, _ = layer.in_proj_weight.split(width)
        bias = layer.in_proj_bias.split(width)
        q, k = x @ query.t() + bias[0], memory @ key.t() + bias[1]
        q, k = (each.unflatten(2, (layer.num_heads, layer.head_dim)).transpose(1, 2) for each in (q, k))
        scores = q @ k.transpose(2, 3) / math.sqrt(layer.head_dim)
        found.append(scores.masked_fill(key_padding_mask[:, None, None], -math.inf).softmax(3))
        return forward(layer, x, memory, key_padding_mask, **options)

    with monkeypatch.context() as patch, no_record():
        patch.setattr(CrossAttention, "forward", watched)
        model.eval()
        model(SOURCE, TARGET)
        model.train()
    return found


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("share_weights", [False, True])
@pytest.mark.parametrize("implementation", ["vectorized", "loops"])
def test_they_are_the_probabilities_of_each_layer(implementation, share_weights, recompute, monkeypatch):
    model = model_of(implementation, recompute, share_weights=share_weights)
    maps = cross_attention_maps(model, SOURCE, TARGET)
    expected = expected_maps(model, monkeypatch)
    assert [tuple(each.shape) for each in maps] == [(2, 2, 3, 4)] * 2
    for found, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)
        assert bool((found[1, :, :, 2:] == 0).all())  # nobody looks at padding
    assert not torch.allclose(*maps)
    assert model.transformer.training
    assert model.transformer.decoder.recompute is recompute
    assert all(tensor.grad is None for tensor in model.parameters())


@pytest.mark.parametrize("length", [2, 4])  # of two source tokens, what tiled attention keeps has the shape of a map
def test_the_tiled_form_keeps_none(length):
    with pytest.raises(ValueError, match="tiled attention keeps no probabilities; build the model vectorized"):
        cross_attention_maps(model_of("tiled"), SOURCE[:, :length], TARGET)


def drawn(translator, path, monkeypatch, sentence, translation):
    """The panels of a plot: title, picture, labels below and beside it."""
    from ds_core.recipes.translation import token_maps

    figures, save = [], token_maps.save_figure
    monkeypatch.setattr(token_maps, "save_figure", lambda figure, to: (figures.append(figure), save(figure, to)))
    plot_attention(translator, sentence, translation, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    return figures[0], [
        (
            axes.get_title(),
            torch.tensor(axes.images[0].get_array().data),
            *([label.get_text() for label in labels] for labels in (axes.get_xticklabels(), axes.get_yticklabels())),
        )
        for axes in figures[0].axes
        if axes.images
    ]


def test_the_plot_shows_the_last_layer(trained, tmp_path, monkeypatch):
    translator = TranslateRun.load(trained)
    deeper = dataclasses.replace(translator.model.config, num_decoder_layers=2)
    translator = dataclasses.replace(translator, model=Seq2SeqTransformer(deeper))
    sentence, translation = "the cat likes the dog.", "Katze mag Hund."
    _, panels = drawn(translator, tmp_path / "maps.png", monkeypatch, sentence, translation)
    assert [title for title, *_ in panels] == ["mean over heads", "head 1", "head 2"]
    source = [*translator.source_tokenizer.encode(sentence), 2]
    target = translator.target_tokenizer.encode(translation).tolist()
    last = cross_attention_maps(translator.model, torch.tensor([source]), torch.tensor([[1, *target]]))[-1][0]
    for (_, picture, below, beside), expected in zip(panels, [last.mean(0), last[0], last[1]], strict=True):
        torch.testing.assert_close(picture, expected)
        assert "".join(below) == "the▁cat▁likes▁the▁dog.end"
        assert "".join(beside) == "Katze▁mag▁Hund.end"
        assert picture.shape == (len(beside), len(below))


def test_letters_of_formulas_empty_translations_and_long_sentences(trained, tmp_path, monkeypatch):
    translator = TranslateRun.load(trained)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, panels = drawn(translator, tmp_path / "a.png", monkeypatch, "$x_1$", "")
        assert panels[0][3] == ["end"]
        figure, panels = drawn(translator, tmp_path / "b.png", monkeypatch, "the cat " * 60, "Hund " * 30)
    assert max(figure.get_size_inches()) <= 60
    assert 30 < len(panels[0][2]) <= 60
    assert panels[0][1].shape[1] > 120


def test_what_cannot_be_drawn(trained, tmp_path, monkeypatch):
    translator = TranslateRun.load(trained)
    with pytest.raises(WriteError, match="cannot write"):
        plot_attention(translator, "the cat", "Katze", tmp_path / "nowhere" / "maps.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match="plotting needs matplotlib"):
        plot_attention(translator, "the cat", "Katze", tmp_path / "maps.png")
