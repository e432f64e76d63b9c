"""Settings from plain values: dataclasses filled from YAML and ``--set``, each value checked against its type."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from cnnspark.errors import UsageError

T = TypeVar("T")


def check_share(name: str, share: float | None) -> None:
    """Raises UsageError where a precision or sensitivity is given that none can be."""
    if share is not None and not 0 < share < 1:
        raise UsageError(f"{name} is {share:g}; give a number between 0 and 1")


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        inner = values.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UsageError(f"'{name}' is a value, not a group of settings; check --set {'.'.join(path)}")
        values = inner
    values[path[-1]] = value


def build(kind: type[T], values: Mapping[str, Any], path: str = "") -> T:
    """An instance of the dataclass ``kind`` from plain values, nested dataclasses included; kinds are checked."""
    if not isinstance(values, Mapping):
        raise UsageError(f"'{path}' must be a group of settings, not {values!r}")
    hints = typing.get_type_hints(kind)
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    chosen = {}
    for name, value in values.items():
        where = f"{path}.{name}" if path else str(name)
        if name not in names:
            shown = [f.name for f in fields(kind) if not f.metadata.get("internal")]  # type: ignore[arg-type]
            close = difflib.get_close_matches(str(name), shown, 1)
            hint = f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(shown)}"
            raise UsageError(f"there is no setting '{where}'{hint}")
        chosen[str(name)] = _convert(hints[name], value, where)
    try:
        return kind(**chosen)
    except ValueError as error:
        raise UsageError(f"{path or 'the configuration'}: {error}") from None


def _convert(kind: Any, value: Any, where: str) -> Any:
    """``value`` as ``kind``. Raises UsageError where it is something else."""
    if is_dataclass(kind):
        return build(kind, value if value is not None else {}, where)  # type: ignore[arg-type]
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        for option in typing.get_args(kind):
            try:
                return _convert(option, value, where)
            except UsageError:
                continue
    elif kind is type(None) and value is None:
        return None
    elif kind is bool and isinstance(value, bool):
        return value
    elif kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    elif kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif kind is float and isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)  # YAML 1.1 takes 1e-3 for text
    elif kind is str and isinstance(value, str):
        return value
    elif origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_convert(typing.get_args(kind)[0], item, where) for item in value)
    raise UsageError(f"'{where}' cannot be {value!r}; it takes {_name(kind)}")


def _name(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "nothing"}
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return " or ".join(_name(option) for option in typing.get_args(kind))
    return "a list" if typing.get_origin(kind) is tuple else names.get(kind, str(kind))


def number_of(text: str) -> float | None:
    """The number that the text is, None where it is none."""
    try:
        return float(text)
    except ValueError:
        return None
