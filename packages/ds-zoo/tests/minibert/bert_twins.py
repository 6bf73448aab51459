"""transformers' BERTs with random weights, inputs for them, and gradients by the names in a file."""

import safetensors.torch
import torch
import transformers
from ds_core import record
from ds_zoo import MiniBERT

BODY = {
    "vocab_size": 37,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 11,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
# Architecture, config.json, shape (B, T) of the batch, kind of mask: all five, odd sizes, every option
CASES = {
    "model": ("BertModel", {"num_hidden_layers": 3}, (3, 7), "right"),
    "model of one layer and head": (
        "BertModel",
        {"num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 5, "layer_norm_eps": 1e-3},
        (2, 11),
        "none",
    ),
    "masked": ("BertForMaskedLM", {"type_vocab_size": 3, "pad_token_id": 4}, (4, 9), "all kinds"),
    "masked without padding token": (
        "BertForMaskedLM",
        {"pad_token_id": None, "type_vocab_size": 1, "vocab_size": 2, "num_hidden_layers": 5},
        (1, 3),
        "none",
    ),
    "pre-training": ("BertForPreTraining", {"num_attention_heads": 4, "intermediate_size": 7}, (4, 8), "left"),
    "sequence": ("BertForSequenceClassification", {"num_labels": 5, "classifier_dropout": 0.0}, (4, 6), "holes"),
    "sequence, two classes": ("BertForSequenceClassification", {"num_labels": 2}, (4, 1), "none"),
    "sequence, regression": ("BertForSequenceClassification", {"num_labels": 1}, (4, 5), "right"),
    "sequence, several numbers": (
        "BertForSequenceClassification",
        {"num_labels": 3, "problem_type": "regression"},
        (4, 5),
        "right",
    ),
    "sequence, several classes at once": (
        "BertForSequenceClassification",
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        (4, 5),
        "all kinds",
    ),
    "tokens": ("BertForTokenClassification", {"num_labels": 3, "type_vocab_size": 5}, (4, 10), "all kinds"),
}


def their_model(architecture, seed=0, **fields):
    """In float64 and with weights of ordinary size in place of the initial 0.02, so that every nonlinearity is felt."""
    torch.manual_seed(seed)
    config = transformers.BertConfig(**{**BODY, **fields})
    model = getattr(transformers, architecture)(config).double().eval()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn_like(tensor), alpha=0.3)
    return model


def our_model(theirs, folder, **options):
    theirs.save_pretrained(folder)
    return MiniBERT.from_pretrained(folder, **options)


def inputs_of(config, shape, mask, seed=1):
    """input_ids with padding tokens among them, token types, and a mask (None: none)."""
    draw = torch.Generator().manual_seed(seed)
    batch, time = shape
    inputs = {
        "input_ids": torch.randint(config.vocab_size, shape, generator=draw),
        "token_type_ids": torch.randint(config.type_vocab_size, shape, generator=draw),
    }
    if mask == "none":
        return inputs
    kept = torch.ones(shape, dtype=torch.int64)
    kinds = {"right": "r", "left": "l", "holes": "h", "all kinds": "rlhn"}[mask]
    for row in range(batch):
        kind = kinds[row % len(kinds)]
        if kind == "r":
            kept[row, time - 1 - row % time :] = 0
        elif kind == "l":
            kept[row, : 1 + row % time] = 0
        elif kind == "h":
            kept[row, 1::2] = 0
        else:  # a text of padding alone
            kept[row] = 0
    if config.pad_token_id is not None:
        inputs["input_ids"] = torch.where(kept == 1, inputs["input_ids"], config.pad_token_id)
    return {**inputs, "attention_mask": kept}


def labels_of(architecture, config, shape, seed=2):
    """The labels of a batch by transformers' names; empty for BertModel, which has no loss."""
    draw = torch.Generator().manual_seed(seed)
    batch = shape[0]
    count = config.num_labels
    if architecture == "BertModel":
        return {}
    if architecture == "BertForSequenceClassification":
        if config.problem_type == "multi_label_classification":
            return {"labels": torch.randint(2, (batch, count), generator=draw).double()}
        if config.problem_type == "regression" or count == 1:
            sizes = (batch,) if count == 1 else (batch, count)
            return {"labels": torch.randn(sizes, generator=draw, dtype=torch.float64)}
        return {"labels": torch.randint(count, (batch,), generator=draw)}
    classes = count if architecture == "BertForTokenClassification" else config.vocab_size
    labels = torch.randint(classes, shape, generator=draw)
    labels[:, ::3] = -100
    labels[0, -1] = 0  # one is left, whatever the shape
    if architecture == "BertForPreTraining":
        return {"labels": labels, "next_sentence_label": torch.randint(2, (batch,), generator=draw)}
    return {"labels": labels}


def outputs_of(output):
    """The differentiable outputs by name."""
    names = (
        "last_hidden_state",
        "pooler_output",
        "logits",
        "prediction_logits",
        "seq_relationship_logits",
    )
    found = {name: getattr(output, name, None) for name in names}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def handwritten_step(model, inputs, labels):
    """The output, the loss and its terms; the gradients are in the parameters' `.grad`."""
    with record():
        output = model(**inputs)
        criterion = model.criterion()
        loss = criterion(output, **labels)
        model.backward(criterion.backward())
    return output, loss, getattr(criterion, "terms", {})


def file_of_gradients(model, folder):
    """The gradients as a file of weights, by the names that they have there; the weights are put back."""
    parameters = list(model.parameters())
    kept = [tensor.data for tensor in parameters]
    for tensor in parameters:
        tensor.data = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad.clone()
    try:
        model.save_pretrained(folder)
    finally:
        for tensor, weight in zip(parameters, kept, strict=True):
            tensor.data = weight
    return safetensors.torch.load_file(folder / "model.safetensors")


def assert_same_gradients(ours, theirs, folder):
    """By the names in a file, each to 1e-8 of its largest entry, or of 1e-5 of the model's largest if that is more."""
    found = file_of_gradients(ours, folder / "our gradients")
    expected = file_of_gradients(theirs, folder / "their gradients")
    assert found.keys() == expected.keys()
    largest = max(float(tensor.abs().max()) for tensor in expected.values())
    assert largest > 0
    for name, tensor in expected.items():
        allowed = 1e-8 * max(float(tensor.abs().max()), 1e-5 * largest)
        difference = float((found[name] - tensor).abs().max())
        assert difference <= allowed, f"{name}: {difference:.2e} of {float(tensor.abs().max()):.2e}"
