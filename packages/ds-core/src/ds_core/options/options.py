"""Options as a dataclass, from which come the command line, its help, and the file in the run folder."""

import argparse
import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from ds_core.errors import UserError, did_you_mean

O = TypeVar("O")  # noqa: E741


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[Any] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    may_change: bool = False,
) -> Any:
    """A field of a dataclass of options.

    The annotation says what the command line takes: `int`, `float`, `str`, `Path`, `bool` (`--x/--no-x`),
    `Literal[...]`, `list[T]` or `tuple[T, ...]` of these, or one of them `| None`.

    Args:
        default: the value if nothing is given; a list or dict is copied for each instance.
        help: one line for `--help`, which adds the default.
        choices: the only values allowed.
        minimum, maximum: the smallest and largest number allowed.
        may_change: whether a resumed run may be given another value than it began with.
    """
    metadata = {"help": help, "choices": choices, "minimum": minimum, "maximum": maximum, "may_change": may_change}
    if isinstance(default, (list, dict, set)):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class Spec(NamedTuple):
    """What one option takes."""

    name: str
    kind: type  # int, float, str, bool or Path
    optional: bool
    sequence: type | None  # list or tuple
    default: Any
    help: str
    choices: Sequence[Any] | None
    minimum: float | None
    maximum: float | None
    may_change: bool

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


def specs(options: type) -> list[Spec]:
    """The options of a dataclass, in order.

    Raises:
        TypeError: an annotation that no command line argument fits, or a field without a default.
    """
    annotations = typing.get_type_hints(options)
    found = []
    for field in dataclasses.fields(options):
        if not field.init:
            continue
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if default is dataclasses.MISSING:
            raise TypeError(f"{options.__name__}.{field.name}: an option needs a default")
        kind, optional, sequence, literals = _kind(annotations[field.name], f"{options.__name__}.{field.name}")
        meta = field.metadata
        found.append(
            Spec(
                name=field.name,
                kind=kind,
                optional=optional,
                sequence=sequence,
                default=default,
                help=meta.get("help", ""),
                choices=meta.get("choices") or literals,
                minimum=meta.get("minimum"),
                maximum=meta.get("maximum"),
                may_change=meta.get("may_change", False),
            )
        )
    return found


def add_options(parser: argparse.ArgumentParser, options: type) -> None:
    """One argument for each option, inherited ones last. The parsed namespace holds only what was given."""
    presets: Mapping[str, Mapping[str, Any]] = getattr(options, "__presets__", {})
    for spec in sorted(specs(options), key=lambda spec: _generation(options, spec.name)):
        shown = "" if spec.default is None else f"default: {_shown(spec.default)}"
        for preset, values in presets.items():
            if spec.name in values and values[spec.name] != spec.default:
                shown += f"; {preset}: {_shown(values[spec.name])}"
        shown = f" ({shown})" if shown else ""
        settings: dict[str, Any] = {
            "dest": spec.name,
            "default": argparse.SUPPRESS,
            "help": (spec.help + shown).replace("%", "%%"),
        }
        if spec.kind is bool:
            parser.add_argument(spec.flag, action=argparse.BooleanOptionalAction, **settings)
            continue
        settings["type"] = _converter(spec)
        settings["metavar"] = "{" + ",".join(map(str, spec.choices)) + "}" if spec.choices else _METAVARS[spec.kind]
        if spec.sequence is not None:
            settings["nargs"] = "*"
        parser.add_argument(spec.flag, **settings)


def build_options(options: type[O], values: Mapping[str, Any]) -> O:
    """The dataclass with these values, each checked against its option.

    Raises:
        UserError: a name that is no option (with the nearest one), a value outside its choices or range;
            and what the dataclass's own `__post_init__` finds contradictory.
    """
    known = {spec.name: spec for spec in specs(options)}
    checked = dict(values)
    for name, value in values.items():
        if name not in known:
            raise UserError(f"unknown option {name}{did_you_mean(name, known)}")
        spec = known[name]
        if spec.sequence is not None and value is not None:
            checked[name] = spec.sequence(value)  # argparse makes lists only
            for item in value:
                _check(spec, item)
        else:
            _check(spec, value)
    return options(**checked)


def to_json(options: Any) -> dict[str, Any]:
    """The values as JSON holds them; paths become absolute, so that they hold from any folder."""
    return {spec.name: json_value(getattr(options, spec.name)) for spec in specs(type(options))}


def json_value(value: Any) -> Any:
    """One value as JSON holds it, in which form two spellings of it are equal: paths absolute, tuples lists."""
    if isinstance(value, Path):
        return str(value.expanduser().absolute())
    return [json_value(item) for item in value] if isinstance(value, (list, tuple)) else value


def from_json(options: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `to_json`: values for `build_options`.

    Raises:
        UserError: a value of another type than its option.
    """
    known = {spec.name: spec for spec in specs(options)}
    restored = {}
    for name, value in values.items():
        spec = known.get(name)
        if spec is None or value is None:
            restored[name] = value
        elif spec.sequence is not None:
            if not isinstance(value, list):
                raise UserError(f"option {name}: expected a list, got {value!r}")
            restored[name] = spec.sequence(_restore(spec, item) for item in value)
        else:
            restored[name] = _restore(spec, value)
    return restored


class Parser(argparse.ArgumentParser):
    """argparse that raises `UserError`, takes no abbreviations, and names the nearest option for an unknown one."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", _Formatter)
        self.flags: list[str] = []
        super().__init__(allow_abbrev=False, **settings)

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        action = super().add_argument(*names, **settings)
        self.flags += action.option_strings
        return action

    def parse(self, arguments: Sequence[str]) -> dict[str, Any]:
        """What was given, by name.

        Raises:
            UserError: an unknown option, or a value that does not fit.
        """
        given, unknown = self.parse_known_args(arguments)
        if unknown:
            flag = unknown[0].split("=")[0]
            if flag.startswith("-"):
                raise UserError(f"unknown option {flag}{did_you_mean(flag, self.flags)} (see {self.prog} --help)")
            raise UserError(f"unexpected argument {flag!r} (see {self.prog} --help)")
        return vars(given)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=110)


def _generation(options: type, name: str) -> int:
    """Which of the base classes declares an option last: 0 is the class itself."""
    declared = (vars(base).get("__annotations__", {}) for base in options.__mro__)
    return next(index for index, names in enumerate(declared) if name in names)


_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


def _kind(annotation: Any, where: str) -> tuple[type, bool, type | None, Sequence[Any] | None]:
    """An annotation as (kind, whether None is allowed, list or tuple, the values of a Literal)."""
    optional = False
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(annotation) if part is not type(None)]
        optional = len(parts) < len(typing.get_args(annotation))
        annotation = parts[0] if len(parts) == 1 else annotation
    origin, parts = typing.get_origin(annotation), list(typing.get_args(annotation))
    if origin is typing.Literal:
        return type(parts[0]), optional, None, parts
    sequence = None
    if origin is list or (origin is tuple and parts[1:] == [...]):
        sequence, annotation = origin, parts[0]
    if annotation not in (int, float, str, bool, Path) or (sequence is not None and annotation is bool):
        raise TypeError(f"{where}: an option cannot be of type {annotation}")
    return annotation, optional, sequence, None


def _converter(spec: Spec) -> Any:
    def convert(text: str) -> Any:
        if spec.optional and spec.kind in (int, float) and text.lower() == "none":
            return None
        if spec.kind is Path and not text:  # which would be the folder that one is in
            raise UserError(f"{spec.flag}: given an empty text, expected a path")
        return spec.kind(text)

    convert.__name__ = spec.kind.__name__  # argparse's message: invalid int value: 'ten'
    return convert


def _check(spec: Spec, value: Any) -> None:
    if value is None:
        if not spec.optional:
            raise UserError(f"{spec.flag}: a value is needed")
        return
    if spec.choices and value not in spec.choices:
        near = did_you_mean(str(value), map(str, spec.choices))
        raise UserError(f"{spec.flag}: given {value!r}, expected one of {', '.join(map(str, spec.choices))}{near}")
    if spec.kind not in (int, float):
        return
    if not math.isfinite(value):
        raise UserError(f"{spec.flag}: given {value}, expected a finite number")
    if spec.minimum is not None and value < spec.minimum:
        raise UserError(f"{spec.flag}: given {value}, expected at least {spec.minimum}")
    if spec.maximum is not None and value > spec.maximum:
        raise UserError(f"{spec.flag}: given {value}, expected at most {spec.maximum}")


def _restore(spec: Spec, value: Any) -> Any:
    expected: tuple[type, ...] = {float: (int, float), Path: (str,)}.get(spec.kind, (spec.kind,))
    if not isinstance(value, expected) or (isinstance(value, bool) and spec.kind is not bool):
        raise UserError(f"option {spec.name}: expected {spec.kind.__name__}, got {value!r}")
    return spec.kind(value)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or "none"
    return repr(value) if value == "" else str(value)
