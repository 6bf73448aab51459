"""Named sets of values for a dataclass of options. `docs/cli.md` says how they are given."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from ds_core.errors import UserError
from ds_core.options.options import option

O = TypeVar("O")  # noqa: E741

Presets = Mapping[str, Mapping[str, Any]]
# Called with all values, which it may change, and the names of those that were given
Follow = Callable[[dict[str, Any], set[str]], None]


def preset_option(presets: Presets, help: str = "where the values of options not given come from") -> Any:
    """The field `preset: str` of a dataclass that `with_presets` decorates."""
    return option("default", help, choices=["default", *presets])


def with_presets(presets: Presets, follow: Follow | None = None) -> Callable[[type[O]], type[O]]:
    """Decorate a dataclass of options: with a `preset`, values that are not given are those of the preset.

        @with_presets({"large": {"num_layers": 12, "lr": 1e-4}})
        @dataclass
        class Options(RunOptions):
            preset: str = preset_option(PRESETS)
            num_layers: int = option(2, "blocks", minimum=1)
            lr: float = option(1e-3, "learning rate", minimum=0)

        Options(preset="large", lr=1e-3)        # 12 blocks

    The fields' own defaults are the preset "default", and the help lists the value of every preset. The values are
    merged before the dataclass sees them, so that each field always has a value of its type. Values are given by
    name. A subclass that is itself a dataclass must be decorated again, or its presets do nothing.

    Args:
        presets: by name, the values that differ from the defaults.
        follow: changes values that depend on others which were given: it is called with the merged values, by name,
            and the names of those given, and changes the values in place.
    """

    def decorate(options: type[O]) -> type[O]:
        defaults = {field.name: field for field in fields(options) if field.init}  # type: ignore[arg-type]
        for name, values in presets.items():
            unknown = sorted(set(values) - set(defaults))
            if unknown:
                raise TypeError(f"{options.__name__}: the preset {name} has values for unknown options {unknown}")
        build: Callable[..., None] = options.__init__

        @functools.wraps(build)
        def merge(self: O, *unnamed: Any, **given: Any) -> None:
            if unnamed:
                raise TypeError(f"{options.__name__}: given {unnamed[0]!r} without a name, expected NAME=VALUE")
            name = given.get("preset", "default")
            if name != "default" and name not in presets:
                raise UserError(f"--preset: given {name!r}, expected one of {', '.join(['default', *presets])}")
            values = {
                known: field.default if field.default_factory is MISSING else field.default_factory()
                for known, field in defaults.items()
            }
            values |= {**presets.get(name, {}), **given}
            if follow is not None:
                follow(values, set(given))
            build(self, **values)

        options.__init__ = merge  # type: ignore[method-assign, assignment]
        options.__presets__ = presets  # type: ignore[attr-defined]
        return options

    return decorate
