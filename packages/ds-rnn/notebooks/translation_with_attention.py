# %% [markdown]
# # Translation, with attention maps
#
# A recurrent encoder reads an English sentence, a recurrent decoder writes the German one, and before each word it
# looks back at the English words. This is `ds train translate-rnn` written out, on the sentences that come with the
# package. Then we draw where it looked: German verbs stand at the end of a clause, so it has to
# look back to find them.

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
from ds_rnn import Seq2SeqRNN, Seq2SeqRNNConfig
from ds_rnn.translation.attention_maps import attention_maps
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
# One vocabulary for both languages, with longer tokens for what is common. A batch holds sentences of about the same
# length, as many as make about a thousand tokens.

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
# ## Model and training
#
# The encoder reads in both directions, so what it says of a word knows the whole sentence. The decoder reads *begin*
# and the German sentence and is to say the token that follows each of them: teacher forcing. With Luong's attention it
# makes its step first and then asks the encoder's states, each with a score of its own:
#
# $$e_{ts} = s_t \cdot W m_s, \qquad p_t = \mathrm{softmax}(e_t), \qquad c_t = \sum_s p_{ts} m_s$$


# %%
def train(attention, steps):
    torch.manual_seed(0)
    size = {"embed_dim": 32, "hidden_size": 32} if FAST else {"embed_dim": 128, "hidden_size": 128}
    vocab = tokenizer.vocab_size
    model = Seq2SeqRNN(Seq2SeqRNNConfig(vocab, vocab, attention=attention, dropout=0.1, pad=PAD, **size))
    optimizer = AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    trainer = Trainer(
        model,
        TokenCrossEntropy(ignore_index=PAD),
        optimizer,
        schedule=WarmupCosineLR(optimizer, steps // 10, steps),
        clip_norm=1.0,
        evaluate=lambda model: token_loss(model, validation.epoch(0)),
        evaluate_every=max(1, steps // 4),
        progress=False,
    )
    history = trainer.fit(batches, steps)
    perplexity = history.evaluations[-1]["perplexity"]
    print(f"{attention}: {sum(tensor.numel() for tensor in model.parameters()):,} parameters, {steps} steps", end=", ")
    print(f"perplexity of the validation pairs {perplexity:.2f}")
    return model, history


RATE = 5e-3
model, history = train("luong", 10 if FAST else 400)

# %%
figure, axis = plt.subplots(figsize=(7, 3))
axis.plot([line["step"] for line in history.training], [line["loss"] for line in history.training], label="training")
evaluated = [line["step"] for line in history.evaluations]
axis.plot(evaluated, [line["loss"] for line in history.evaluations], "o-", label="validation")
axis.set(xlabel="step", ylabel="nats a token")
axis.legend()
plt.show()
assert history.evaluations[-1]["loss"] < history.evaluations[0]["loss"]

# %% [markdown]
# ## Sentences that it has never seen
#
# Each time the likeliest token is taken, which is greedy decoding. After less than four epochs it still has words
# wrong; word order and endings are mostly right.

# %%
translator = Translator(model, tokenizer, tokenizer)
asked = split.test.source[: 20 if FAST else 200]
references = split.test.target[: len(asked)]
options = {"max_length": 8} if FAST else {}
found = translator.translate(asked, beam_size=1, **options)
scores = corpus_scores(found, references)
print(", ".join(f"{score} {value:.4g}" for score, value in scores.items()))
for number in range(6):
    print(f"\n{asked[number]}\n  {found[number]}\n  {references[number]}")
if not FAST:
    assert scores["BLEU"] > 40

# %% [markdown]
# ## What it looked at
#
# Each row is a token of the German sentence, each column one of the English sentence: how the decoder shared out its
# look when it was to say that token. We give it the German sentences of the test pairs, so that the pictures do not
# hang on a word that it gets wrong. Word for word the dark squares would go down the diagonal.


# %%
def look(model, sentence, translation):
    """The weights (T, S), and the tokens of rows and columns."""
    read, said = source_tokens(tokenizer, [sentence])[0], tokenizer.encode_batch([translation])[0]
    weights = attention_maps(model, translator.padded([read]), translator.padded([[BEGIN, *said]]))[0]
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))  # a row is shared out, all of it
    return weights, [*tokenizer.tokens(said), "end"], [*tokenizer.tokens(read[:-1]), "end"]


def draw(axis, title, weights, rows, columns):
    axis.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(columns)), columns, rotation=90, fontsize=8)
    axis.set_yticks(range(len(rows)), rows, fontsize=8)
    axis.set_title(title, fontsize=9)


CHOSEN = {  # a sentence, its German verb, and where that stands in English
    "We are going to call the pupil in two weeks.": ("▁anrufen", ["▁call"]),
    "My friend reads your maps because Laura goes to the kitchen.": ("▁geht", ["▁goes"]),
    "Your grandfather can look for the small horse.": ("▁suchen", ["▁look", "▁for"]),
}
translations = dict(zip(split.test.source, split.test.target, strict=True))


def look_at_verbs(model, title, least):
    _, axes = plt.subplots(1, len(CHOSEN), figsize=(15, 4.5), layout="constrained")
    for axis, (sentence, (verb, english)) in zip(axes, CHOSEN.items(), strict=True):
        weights, rows, columns = look(model, sentence, translations[sentence])
        draw(axis, f"{title}: {sentence}", weights, rows, columns)
        row, places = rows.index(verb), [columns.index(word) for word in english]
        share = weights[row, places].sum().item()
        print(f"{verb} is token {row} in German, {' '.join(english)} token {places[0]} in English,", end=" ")
        print(f"and gets {share:.0%} of its look")
        assert row > places[0]
        if not FAST:
            assert share > least
    plt.show()


look_at_verbs(model, "Luong", least=0.5)

# %% [markdown]
# Most rows look at the word that they translate, and as long as the order of words is the same they go down the
# diagonal. The verbs leave it: *anrufen*, *geht* and *suchen* stand at the end of their German clause, and their rows
# look back to the left, at *call*, at *goes*, and at *look for*, which is one word in German. Nobody has told the model
# which word belongs to which; it had pairs of sentences and no more.
#
# What the row of the full stop or of *end* looks at says little: by then the state knows what is to come.
#
# ## Bahdanau's attention
#
# Here the state looks *before* its step, and what it reads goes into the step; the score is a small network,
# $e_{ts} = w \cdot \tanh(W_q s_{t-1} + W_k m_s + b)$. It asks with a state that does not know the last word yet, and
# it must go step by step, because each question needs the answer before. Trained for fewer steps
# it shares its look out more widely, but the rows of the verbs go back to the English verbs all the same:

# %%
bahdanau, _ = train("bahdanau", 10 if FAST else 300)
look_at_verbs(bahdanau, "Bahdanau", least=0.25)

# %% [markdown]
# `ds translate FOLDER --text ... --maps FILE` draws the same of a trained run.
