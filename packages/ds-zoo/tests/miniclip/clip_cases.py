"""Small CLIPs, transformers' and ours with the same weights, and inputs for them: what several tests share."""

import torch
import transformers
from ds_core import record
from ds_zoo import MiniCLIP, MiniCLIPConfig, TextConfig, VisionConfig
from ds_zoo.miniclip import MiniCLIPOutput

TEXT = {"embed_dim": 12, "num_layers": 2, "num_heads": 3, "hidden_dim": 20, "vocab_size": 15, "max_length": 7}
VISION = {"embed_dim": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 18, "image_size": 12, "patch_size": 4}
FIELDS = ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds")


def small_config(text=None, vision=None, **options):
    """Of a CLIP whose texts end with token 14, the largest."""
    text = TextConfig(**{**TEXT, "end_token": 14, "begin_token": 13, "pad_token": 0, **(text or {})})
    return MiniCLIPConfig(text, VisionConfig(**{**VISION, **(vision or {})}), **{"projection_dim": 6, **options})


def rough(model, seed=0):
    """Weights of ordinary size, so that every nonlinearity is felt."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype), alpha=0.2)
    return model


def small_model(config=None, **options):
    generator = torch.Generator().manual_seed(0)
    options = {"dtype": torch.float64, "generator": generator, **options}
    return rough(MiniCLIP(small_config() if config is None else config, **options))


def twin_of(model, folder):
    """transformers' CLIP with the weights of ours."""
    model.save_pretrained(folder)
    return transformers.CLIPModel.from_pretrained(folder, dtype=torch.float64).eval()


def small_inputs(config, texts=3, images=3, tokens=7, mask=None, size=None, seed=1):
    """Texts that end at different positions with the end token, what follows being random, and images."""
    generator = torch.Generator().manual_seed(seed)
    end = config.text.vocab_size - 1
    input_ids = torch.randint(1, end, (texts, tokens), generator=generator)
    for row in range(texts):
        input_ids[row, tokens - 1 - row % max(1, tokens - 1)] = config.text.end_token
    height, width = (config.vision.image_size,) * 2 if size is None else size
    shape = (images, config.vision.num_channels, height, width)
    pixel_values = torch.randn(shape, generator=generator, dtype=torch.float64)
    inputs = {"input_ids": input_ids, "pixel_values": pixel_values}
    if mask is not None:
        attention_mask = torch.ones(texts, tokens, dtype=torch.int64)
        for row in range(texts):
            if mask == "right":
                attention_mask[row, tokens - row % tokens :] = 0
            elif mask == "left":
                attention_mask[row, : row % tokens] = 0
            else:
                attention_mask[row, row % tokens :: 2] = 0
        inputs["attention_mask"] = attention_mask
    if size is not None:
        inputs["interpolate_pos_encoding"] = True
    return inputs


def random_gradients(out, fields=FIELDS, seed=2):
    """One random tensor for each of the fields, None for the others."""
    generator = torch.Generator().manual_seed(seed)
    named = {name: getattr(out, name) for name in fields}
    return MiniCLIPOutput(
        **{name: torch.randn(t.shape, generator=generator, dtype=t.dtype) for name, t in named.items()}
    )


def step(model, inputs, groups=None):
    """Loss and backward by hand; the loss."""
    criterion = model.criterion()
    model.zero_grad()
    with record():
        loss = criterion(model(**inputs), groups)
        model.backward(criterion.backward())
    return loss
