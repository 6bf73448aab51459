"""What preprocessor_config.json says, of all the versions of transformers that wrote one.

Theory: docs/vision/image_processor.md.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ds_core.training.pretrained_files import read_json

from ds_zoo.vision.image_steps import ExactSize, ShortestEdge

FILE = "preprocessor_config.json"
_NESTED = "processor_config.json"  # where newer processors of images and texts keep the same fields

# By transformers' name of a processor, the value of each field that its file does not have
DEFAULTS: dict[str, dict[str, Any]] = {
    "ViTImageProcessor": {
        "do_resize": True,
        "size": {"height": 224, "width": 224},
        "default_to_square": True,
        "resample": 2,
        "do_center_crop": False,
        "crop_size": None,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    },
    "CLIPImageProcessor": {
        "do_resize": True,
        "size": {"shortest_edge": 224},
        "default_to_square": False,
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    },
}
_OF_MODEL = {"vit": "ViTImageProcessor", "clip": "CLIPImageProcessor"}  # by config.json's model_type
# Fields that change what comes out, and the values with which they do not
_FIXED: dict[str, tuple[Any, ...]] = {
    "do_pad": (None, False),
    "do_flip_channel_order": (None, False),
    "do_thumbnail": (None, False),
    "do_align_long_axis": (None, False),
    "size_divisor": (None,),
    "crop_pct": (None,),
}


def read_fields(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The file of a folder, and the fields in it.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    nested = folder / _NESTED
    if nested.exists():
        fields = _read_json(nested).get("image_processor")
        if isinstance(fields, dict):
            return nested, fields
    return folder / FILE, _read_json(folder / FILE)


def kind_of(given: Mapping[str, Any], folder: Path) -> str:
    """transformers' name of the processor; of a file without one, that of the model in the folder.

    Raises:
        ValueError: it is none of `DEFAULTS`.
    """
    field = next((name for name in ("image_processor_type", "feature_extractor_type") if given.get(name)), None)
    if field is None:
        config = folder / "config.json"
        model = _read_json(config).get("model_type") if config.exists() else None
        guess = "clip" if "do_center_crop" in given else "vit"
        if model is not None and model not in _OF_MODEL:
            raise ValueError(
                f"image_processor_type is missing, and model_type in {config} is {model!r}: expected one of "
                f"{list(DEFAULTS)}"
            )
        return _OF_MODEL[guess if model is None else model]
    kind = str(given[field]).removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")
    if kind not in DEFAULTS:
        raise ValueError(f"{field} is {given[field]!r}, expected one of {list(DEFAULTS)}")
    return kind


def options_of(given: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The arguments of `ImageProcessor` that a file's fields ask for.

    Raises:
        ValueError: a field asks for what is not done here, or is of another form.
    """
    for name, known in _FIXED.items():
        if given.get(name) not in known:
            raise ValueError(f"{name} is {given[name]!r}, which is not supported: expected {known[-1]!r}")
    fields = DEFAULTS[kind] | {name: value for name, value in given.items() if value is not None}
    for name in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
        if name in given and given[name] is None:  # null is no to transformers
            fields[name] = False
        if not isinstance(fields[name], bool):
            raise ValueError(f"{name} is {fields[name]!r}, expected true or false")
    size = _size("size", fields["size"], fields["default_to_square"]) if fields["do_resize"] else None
    crop_size = None
    if fields["do_center_crop"]:
        cropped = _size("crop_size", fields["crop_size"], True)
        if not isinstance(cropped, ExactSize):
            raise ValueError(f"crop_size is {fields['crop_size']}, expected height and width")
        crop_size = (cropped.height, cropped.width)
    normalised = fields["do_normalize"]
    return {
        "size": size,
        "resample": fields["resample"],
        "crop_size": crop_size,
        "rescale_factor": fields["rescale_factor"] if fields["do_rescale"] else None,
        "image_mean": _numbers(fields["image_mean"]) if normalised else None,
        "image_std": _numbers(fields["image_std"]) if normalised else None,
        "kind": kind,
    }


def _size(name: str, given: Any, square: bool) -> ExactSize | ShortestEdge:
    """A size in any of its forms: an object, in older files a number or [height, width]."""
    if isinstance(given, int) and not isinstance(given, bool):
        return ExactSize(given, given) if square else ShortestEdge(given)
    if isinstance(given, list) and len(given) == 2:
        return ExactSize(given[0], given[1])
    if isinstance(given, dict) and set(given) == {"height", "width"}:
        return ExactSize(given["height"], given["width"])
    if isinstance(given, dict) and set(given) == {"shortest_edge"}:
        return ShortestEdge(given["shortest_edge"])
    raise ValueError(f"{name} is {given!r}, expected height and width, or shortest_edge")


def _numbers(given: Any) -> Any:
    return tuple(given) if isinstance(given, list) else given


def _read_json(path: Path) -> dict[str, Any]:
    return read_json(path, f"{path} is not there: it says how images are resized and normalised")
