# %% [markdown]
# # Translation, with attention maps
#
# A small Transformer learns English to German from the sentences that come with the package, in a minute or two, with
# everything that `ds train translate` does written out. Then we look at what it looked at: German verbs stand at the
# end of a clause, and the decoder finds them at the beginning of the English one.

# %%
import os

import torch
from ds_core import AdamW, TokenCrossEntropy, Trainer, WarmupCosineLR
from ds_core.recipes.translation.corpus import source_tokens
from ds_core.recipes.translation.translator import Translator
from ds_core.text.byte_pair import BPETokenizer
from ds_core.text.example_pairs import shipped_pairs
from ds_core.text.pairs import split_by_hash
from ds_core.text.scores import corpus_scores, token_loss
from ds_core.text.token_batches import TokenBatches
from ds_core.text.tokenizers import BEGIN, END, PAD, SPECIAL_TOKENS
from ds_transformers import Seq2SeqConfig, Seq2SeqTransformer, beam_search
from ds_transformers.translation.attention_maps import cross_attention_maps
from matplotlib import pyplot as plt

FAST = bool(os.environ.get("DS_FAST"))
torch.manual_seed(0)
split = split_by_hash(shipped_pairs("en", "de"))
print(len(split.train), "pairs to train on,", len(split.validation), "to validate on,", len(split.test), "to test on")
for source, target in list(split.train)[:4]:
    print(f"  {source:45} {target}")

# %% [markdown]
# ## Tokens, and batches of them
#
# One vocabulary for both languages, with longer tokens for what is common. A batch is a rectangle of about as many
# tokens as any other, so sentences of about the same length are put together.

# %%
sentences = [*split.train.source, *split.train.target]
tokenizer = BPETokenizer.train(sentences, 2000, special_tokens=SPECIAL_TOKENS, split_digits=True, nfc=True)
print(tokenizer.tokens(tokenizer.encode("Every Thursday Anna returns to the garden.")))
print(tokenizer.tokens(tokenizer.encode("Jeden Donnerstag kehrt Anna in den Garten zurück.")))


def batches_of(pairs, max_tokens, **options):
    source, target = source_tokens(tokenizer, pairs.source), tokenizer.encode_batch(pairs.target)
    return TokenBatches(source, target, max_tokens, pad=PAD, begin=BEGIN, end=END, **options)


batches, validation = batches_of(split.train, 1000), batches_of(split.validation, 1000, shuffle=False)
(source, target_in), target_out = batches.batch(0)
print("a batch:", tuple(source.shape), tuple(target_in.shape), f"{batches.padding_share():.0%} padding")

# %% [markdown]
# ## Training
#
# The decoder reads *begin* and the German sentence, and is to say the German sentence and *end*: each position predicts
# the token that follows. Label smoothing asks it to be sure to nine tenths only. What is validated is the plain
# cross-entropy, without smoothing; its exponential, the perplexity, is the number of tokens it wavers between.

# %%
config = Seq2SeqConfig(
    tokenizer.vocab_size,
    tokenizer.vocab_size,
    embed_dim=32 if FAST else 64,
    num_heads=4,
    dim_feedforward=64 if FAST else 256,
    num_encoder_layers=2,
    num_decoder_layers=2,
    dropout=0.1,
    norm_first=True,
)
model = Seq2SeqTransformer(config)
steps = 12 if FAST else 10 * batches.steps_per_epoch
optimizer = AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.98), weight_decay=0.01)
trainer = Trainer(
    model,
    TokenCrossEntropy(ignore_index=PAD, label_smoothing=0.1),
    optimizer,
    schedule=WarmupCosineLR(optimizer, steps // 10, steps),
    clip_norm=1.0,
    evaluate=lambda model: token_loss(model, validation.epoch(0)),
    evaluate_every=steps // 10,
    progress=False,
)
history = trainer.fit(batches, steps)
print(f"{sum(tensor.numel() for tensor in model.parameters()):,} parameters, {trainer.seconds:.0f} s of steps")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
left.plot([line["step"] for line in history.training], [line["loss"] for line in history.training], label="training")
evaluated = [line["step"] for line in history.evaluations]
left.plot(evaluated, [line["loss"] for line in history.evaluations], "o-", label="validation, without smoothing")
left.set(xlabel="step", ylabel="nats a token")
left.legend()
right.semilogy(evaluated, [line["perplexity"] for line in history.evaluations], "o-")
right.set(xlabel="step", ylabel="perplexity of the validation pairs")
plt.show()
assert history.evaluations[-1]["loss"] < history.evaluations[0]["loss"]

# %% [markdown]
# The training loss ends far above the validation loss, and not because of dropout alone. With smoothing $\varepsilon$
# over $V$ tokens the targets themselves have an entropy, which no model can go below:

# %%
smoothing, size = 0.1, tokenizer.vocab_size
right_one, others = 1 - smoothing + smoothing / size, smoothing / size
floor = -torch.tensor([right_one, *[others] * (size - 1)]).double()
floor = float((floor * (-floor).log()).sum())
print(f"lowest possible training loss: {floor:.3f} nats")
assert min(line["loss"] for line in history.training) > floor

# %% [markdown]
# ## Sentences that it has never seen
#
# Greedy decoding takes the likeliest token each time. Beam search follows the four likeliest beginnings side by side,
# and may find a sentence that is likelier as a whole.

# %%
translator = Translator(model, tokenizer, tokenizer)
asked = split.test.source[: 20 if FAST else 300]
references = split.test.target[: len(asked)]
options = {"max_length": 8} if FAST else {}
greedy_found = translator.translate(asked, beam_size=1, **options)
beam_found = translator.translate(asked, beam_size=4, **options)
for name, found in (("greedy", greedy_found), ("beam of 4", beam_found)):
    scores = corpus_scores(found, references)
    print(f"{name:10}", ", ".join(f"{score} {value:.4g}" for score, value in scores.items()))
for number in range(6):
    print(f"\n{asked[number]}\n  {beam_found[number]}\n  {references[number]}")
if not FAST:
    assert corpus_scores(beam_found, references)["BLEU"] > 50

# %% [markdown]
# Where the two differ, the beam's has the higher log-probability, as far as it saw:

# %%
different = [index for index in range(len(asked)) if greedy_found[index] != beam_found[index]]
print(len(different), "of", len(asked), "differ")
for index in different[:3]:
    print(f"\n{asked[index]}\n  greedy    {greedy_found[index]}\n  beam      {beam_found[index]}")
    print(f"  reference {references[index]}")

# %% [markdown]
# Other hypotheses of one beam, the best first, with log-probabilities:

# %%
tokens = translator.padded(source_tokens(tokenizer, ["Could you please turn off your phone?"]))
search = {"begin": BEGIN, "end": END, "pad": PAD, "max_length": 8 if FAST else 30}
for hypothesis in beam_search(model, tokens, beam_size=4, return_all=True, **search)[0]:
    print(f"{hypothesis.log_probability:8.3f}  {tokenizer.decode(hypothesis.tokens)}")

# %% [markdown]
# ## What it looked at
#
# Each row is a token of the translation, each column a token of the sentence; the row says where the decoder looked
# when it chose that token (the last layer, mean over its heads). Word for word the dark squares would go down the
# diagonal.


# %%
def look(sentences):
    _, axes = plt.subplots(1, len(sentences), figsize=(5 * len(sentences), 4.5), layout="constrained")
    looks = []
    for axis, sentence in zip(axes, sentences, strict=True):
        translation = translator.translate([sentence], beam_size=4, **options)[0]
        read, said = source_tokens(tokenizer, [sentence])[0], tokenizer.encode_batch([translation])[0]
        maps = cross_attention_maps(model, translator.padded([read]), translator.padded([[BEGIN, *said]]))
        mean = maps[-1][0].mean(0)  # (target tokens, source tokens)
        axis.imshow(mean, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(len(read)), [*tokenizer.tokens(read[:-1]), "end"], rotation=90, fontsize=8)
        axis.set_yticks(range(len(said) + 1), [*tokenizer.tokens(said), "end"], fontsize=8)
        axis.set_title(sentence, fontsize=9)
        torch.testing.assert_close(mean.sum(1), torch.ones(len(said) + 1))  # a row is shared out, all of it
        looks.append(mean)
    plt.show()
    return looks


chosen = [
    "We are going to call the pupil in two weeks.",
    "My friend reads your maps because Laura goes to the kitchen.",
    "Your grandfather can look for the small horse.",
]
assert all(sentence in split.test.source for sentence in chosen)
looks = look(chosen)
for sentence, verb, mean in zip(chosen, ("▁call", "▁goes", "▁look"), looks, strict=True):
    column = tokenizer.tokens(tokenizer.encode(sentence)).index(verb)
    row = int(mean[:, column].argmax())
    print(f"{verb} is token {column} of its sentence, and is looked at most by token {row} of {len(mean) - 1}")
    if not FAST:
        assert row > column

# %% [markdown]
# Noun by noun and adjective by adjective there is a diagonal. The verbs leave it: *anrufen*, *geht* and *suchen* stand
# at the end of their German clause, and their rows look back to the left, at *call*, *goes* and *look*. The article
# looks at its noun too, for that decides between *der*, *die* and *das*.
#
# `ds translate FOLDER --text ... --maps FILE` draws the same of a trained run, head by head.
