"""The recipe `minigpt` from a pretrained folder: all weights, some of them, or LoRA's updates."""

import json
import shutil

import pytest
import safetensors.torch
import torch
import transformers
from ds_core.testing import check_recipe
from ds_zoo import MiniGPT
from ds_zoo.minigpt.pretrained_tokenizer import read_tokenizer
from tiny_minigpt import write_text
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCABULARY = 262
TINY = "--steps 8 --batch-size 2 --block-size 8 --evaluate-every 3 --evaluate-batches 2 --checkpoint-every 2"


def write_gpt2(folder, text):
    """A GPT-2 of transformers with a tokenizer like GPT-2's, which knows <|endoftext|>."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
    )
    inner.train_from_iterator([text], trainer)
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|endoftext|>").save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=inner.get_vocab_size(), n_positions=32, n_layer=2, n_head=2, n_embd=8, n_inner=12
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    write_text(folder / "text.txt")
    return write_gpt2(folder, (folder / "text.txt").read_text())


@pytest.fixture
def tune(pretrained, tmp_path, ds):
    """Fine-tune in `out`; returns exit status, what was printed, and what was complained about."""

    def train(*more, out=tmp_path / "out", steps=6, model=pretrained):
        return ds(
            *("train", "minigpt", "--from-pretrained", model, "--text", pretrained / "text.txt", "--out", out),
            *("--steps", steps, "--batch-size", 2, "--block-size", 8, "--evaluate-every", 3, "--evaluate-batches", 2),
            *("--lr", 0.01, "--threads", 1),
            *more,
        )

    return train


def tensors(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def changed(folder, pretrained):
    before, after = tensors(pretrained), tensors(folder)
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_all_weights_learn_and_transformers_reads_the_folder(tune, ds, pretrained, tmp_path, capsys):
    status, printed, _ = tune(steps=30)
    assert status == 0
    assert f"from {pretrained}" in printed
    assert "trained)" not in printed
    out = tmp_path / "out"
    assert changed(out, pretrained) == tensors(pretrained).keys()
    config = MiniGPT.from_pretrained(out).config
    assert (config.block_size, config.hidden_dim, config.num_layers, config.bias) == (32, 12, 2, True)
    text = "to be or not to be <|endoftext|> é"
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(out)
    assert theirs.encode("to be or not") == read_tokenizer(out).encode("to be or not").tolist()
    assert read_tokenizer(out).decode(read_tokenizer(out).encode(text)) == text  # a special token's name is text
    results = json.loads((out / "results.json").read_text())["validation"]
    before = json.loads((out / "log.jsonl").read_text().splitlines()[0])
    assert results["loss"] < before["loss"] - 0.3
    for weights in ("best", "last"):
        status, printed, _ = ds("generate", out, "--prompt", "to be", "--tokens", 5, "--weights", weights)
        assert status == 0
        assert printed.startswith("to be")


def test_lora_leaves_all_weights_but_those_it_was_added_to(tune, ds, pretrained, tmp_path):
    status, printed, _ = tune("--lora-rank", 2, "--lora-targets", "blocks.1.attention", "linear2", steps=6)
    assert status == 0
    updates = 2 * (8 + 24) + 2 * 2 * (8 + 12)
    assert f" parameters of which {updates} are trained (2 layers, 8 wide, blocks of 8" in printed
    out = tmp_path / "out"
    kinds = {"transformer.h.1.attn.c_attn.weight", *(f"transformer.h.{i}.mlp.c_proj.weight" for i in (0, 1))}
    assert changed(out, pretrained) == kinds
    best, last = (
        ds("generate", out, "--prompt", "to be", "--tokens", 9, "--weights", weights, "--seed", 1)[1]
        for weights in ("best", "last")
    )
    assert best == last  # the last evaluation was the best one
    checkpoint = safetensors.torch.load_file(out / "checkpoint.safetensors")
    assert sum("lora_a" in name and name.startswith("model.") for name in checkpoint) == 3


def without_key_bias(name, tensor):
    """A parameter without the bias of keys, whose gradient is rounding alone: Adam would make a step of it."""
    if not name.endswith("in_proj_bias"):
        return tensor
    query, _, value = tensor.chunk(3)
    return torch.cat([query, value])


@pytest.mark.parametrize("part", ["folder", "longer", "killed", "together"])
@pytest.mark.parametrize("more", ["--lora-rank 2", "--freeze tokens blocks.0 --layer-decay 0.5"])
def test_what_every_recipe_must_survive(more, part, pretrained):
    check_recipe(
        "minigpt",
        ["--text", f"{pretrained}/text.txt", "--from-pretrained", str(pretrained), *more.split(), *TINY.split()],
        longer="--steps 10",
        shorter="--steps 2",
        changed={"--lora-rank 3": "--lora-rank"},
        together="--dtype float64",
        comparable=without_key_bias,
        parts=[part],
    )


def test_frozen_parts_stay(tune, pretrained, tmp_path):
    status, printed, _ = tune("--freeze", "tokens", "positions", "blocks.[0]")
    assert status == 0
    assert "are trained" in printed
    kept = {name for name in tensors(pretrained) if name.startswith(("transformer.w", "transformer.h.0"))}
    assert changed(tmp_path / "out", pretrained) == tensors(pretrained).keys() - kept


def test_layers_below_learn_more_slowly(tune, pretrained, tmp_path):
    assert tune("--layer-decay", "0.1", steps=3)[0] == 0
    before, after = tensors(pretrained), tensors(tmp_path / "out")
    moved = {name: float((after[name] - before[name]).abs().max()) for name in before}
    assert moved["transformer.h.0.ln_1.bias"] < moved["transformer.h.1.ln_1.bias"] / 5
    assert moved["transformer.h.1.ln_1.bias"] < moved["transformer.ln_f.bias"] / 5


def test_an_own_run_can_be_continued_on_another_text(run, ds, tmp_path, text):
    assert run()[0] == 0
    other = tmp_path / "other.txt"
    other.write_text(text.read_text()[::-1])
    tune = ("train", "minigpt", "--from-pretrained", tmp_path / "out", "--out", tmp_path / "tuned", "--steps", 2)
    status, printed, _ = ds(*tune, "--text", other, "--block-size", 8, "--evaluate-every", 2, "--batch-size", 2)
    assert status == 0
    assert "before training, it writes" in printed
    assert (tmp_path / "tuned/tokenizer.json").read_bytes() == (tmp_path / "out/tokenizer.json").read_bytes()


def test_without_a_learning_rate_it_is_a_small_one(tune, tmp_path, ds, pretrained):
    from ds_zoo.minigpt.options import MiniGPTOptions

    assert MiniGPTOptions(from_pretrained=pretrained).lr == 1e-4
    assert MiniGPTOptions(from_pretrained=pretrained).min_lr == pytest.approx(2.5e-6)
    assert MiniGPTOptions(from_pretrained=pretrained, lora_rank=2).lr == 1e-3
    assert MiniGPTOptions(from_pretrained=pretrained, lr=0.5).lr == 0.5
    assert MiniGPTOptions().lr == 4e-3


def test_several_prompts_as_one_batch(tune, ds, tmp_path):
    assert tune()[0] == 0
    options = ("generate", tmp_path / "out", "--tokens", 6)
    status, printed, _ = ds(*options, "--prompts", "to be", "or", "not to be or not", "--temperature", 0)
    assert status == 0
    alone = [ds(*options, "--prompt", text, "--temperature", 0)[1] for text in ("to be", "or", "not to be or not")]
    assert printed == "\n".join(alone) + "\n"
    status, printed, _ = ds(*options, "--prompts", "to be", "or", "--seed", 3)
    alone = [ds(*options, "--prompt", text, "--seed", seed)[1] for text, seed in (("to be", 3), ("or", 4))]
    assert printed == "\n".join(alone) + "\n"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--prompts", "to", ""], "--prompts: one is empty"),
        (["--prompts", "to", "--prompt", "be"], "--prompt and --prompts contradict each other"),
    ],
)
def test_prompts_that_cannot_be(more, message, ds, trained, complaint):
    assert message in complaint(ds("generate", trained, *more))


def test_prompts_of_unknown_characters(ds, trained, complaint):
    line = complaint(ds("generate", trained, "--prompts", "to be", "bé"))
    assert "'bé' of --prompts has a character the tokenizer never saw" in line


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--embed-dim", 16], "--embed-dim contradicts --from-pretrained"),
        (["--tokenizer", "bpe"], "--tokenizer contradicts --from-pretrained"),
        (["--block-size", 33], "--block-size 33 is beyond the 32 tokens that the model in"),
        (["--freeze", "head"], "--freeze: 'head' fits no parameter: there are tokens, positions"),
        (["--lora-rank", 2, "--lora-targets", "c_attn"], "--lora-targets: 'c_attn' fits no layer: there are blocks.*."),
        (["--lora-targets", "attention.out_proj"], "need --lora-rank"),
    ],
)
def test_options_that_do_not_fit(more, message, tune, complaint, tmp_path):
    assert message in complaint(tune(*more))
    assert not (tmp_path / "out").exists()


def damage(folder, what):
    path = folder / "tokenizer.json"
    if what == "no tokenizer":
        path.unlink()
        return "tokenizer.json does not exist"
    fields = json.loads(path.read_text())
    if what == "damaged tokenizer":
        path.write_text(path.read_text()[:-20])
        return "tokenizer.json is damaged"
    if what == "not a tokenizer":
        path.write_text('{"a": 1}')
        return "is not a tokenizer that ds wrote"
    if what == "another tokenizer":
        path.write_text(json.dumps(fields | {"model": {"type": "WordPiece", "vocab": {"[UNK]": 0}}}))
        return "of another kind, WordPiece: expected byte-level BPE"
    if what == "characters":
        path.write_text(json.dumps(fields | {"pre_tokenizer": {"type": "Whitespace"}}))
        return "of another kind, BPE of characters"
    if what == "other vocabulary":
        fields["added_tokens"].append(fields["added_tokens"][0] | {"id": VOCABULARY, "content": "<more>"})
        path.write_text(json.dumps(fields))
        return f"the model knows {VOCABULARY} tokens, tokenizer.json {VOCABULARY + 1}: they do not belong together"
    if what == "no model":
        (folder / "config.json").unlink()
        return "config.json does not exist"
    raise AssertionError(what)


@pytest.mark.parametrize(
    "what",
    [
        *("no tokenizer", "damaged tokenizer", "not a tokenizer", "another tokenizer", "characters"),
        *("other vocabulary", "no model"),
    ],
)
def test_folders_that_do_not_fit(what, tune, pretrained, tmp_path, complaint):
    folder = shutil.copytree(pretrained, tmp_path / "copy")
    message = damage(folder, what)
    assert message in complaint(tune(model=folder))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_there(tune, tmp_path, complaint):
    assert "nowhere" in complaint(tune(model=tmp_path / "nowhere"))
