"""Options as dataclasses: the command line, its help, and presets."""

from ds_core.options.options import (
    Parser,
    Spec,
    add_options,
    build_options,
    from_json,
    option,
    plain,
    specs,
    to_json,
)

__all__ = ["Parser", "Spec", "add_options", "build_options", "from_json", "option", "plain", "specs", "to_json"]
