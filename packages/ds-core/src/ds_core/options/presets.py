"""Options whose defaults come from a preset, a named set of values. `docs/cli.md` says how they are given."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ds_core.errors import UserError
from ds_core.options import option

Presets = Mapping[str, Mapping[str, Any]]


def preset_option(presets: Presets, name: str, help: str, **limits: Any) -> Any:
    """A field that is None until `fill_from_preset`; its help lists the value of each preset.

    Args:
        presets: values by option and preset, of which one is called "default".
        name: of the field.
        help, limits: as for `option`.
    """
    words = {"True": "on", "False": "off"}
    shown = {preset: words.get(str(values[name]), str(values[name])) for preset, values in presets.items()}
    others = [f"{preset} {value}" for preset, value in shown.items() if value != shown["default"]]
    listed = ", ".join([shown["default"], *others])
    return option(None, f"{help} (by preset: {listed})", **limits)


def chosen_preset(presets: Presets, name: str) -> Mapping[str, Any]:
    """The values of the preset `name`.

    Raises:
        UserError: there is none.
    """
    if name not in presets:
        raise UserError(f"--preset: given {name!r}, expected one of {', '.join(presets)}")
    return presets[name]


def fill_from_preset(options: Any, presets: Presets) -> None:
    """Give every field that is still None the value of the preset `options.preset`, if that has one."""
    values = chosen_preset(presets, options.preset)
    for field in fields(options):
        if getattr(options, field.name) is None and field.name in values:
            setattr(options, field.name, values[field.name])
