"""Options as dataclasses: the command line, its help, and presets."""

from ds_core.options.options import (
    Parser,
    Spec,
    add_options,
    build_options,
    from_json,
    json_value,
    option,
    specs,
    to_json,
)
from ds_core.options.presets import preset_option, with_presets

__all__ = [
    "Parser",
    "Spec",
    "add_options",
    "build_options",
    "from_json",
    "json_value",
    "option",
    "preset_option",
    "specs",
    "to_json",
    "with_presets",
]
