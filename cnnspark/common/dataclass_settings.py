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
    """Refuses a precision or sensitivity that is not a share; None is not checked.

    Raises:
        UsageError: if ``share`` is not between 0 and 1; ``name`` says which setting it is.
    """
    if share is not None and not 0 < share < 1:
        raise UsageError(f"{name} is {share:g}; give a number between 0 and 1")


def set_value(values: dict[str, Any], path: list[str], value: Any) -> None:
    """Puts a value into nested settings, in place, and makes the groups on the way to it.

    Args:
        values: settings as YAML gives them, groups as dicts.
        path: the names of the groups and, last, of the setting: ``["blocks", "records"]``.
        value: what the setting becomes; its type is checked later, by :func:`build`.

    Raises:
        UsageError: if a name before the last one is a value, not a group.
    """
    for name in path[:-1]:
        inner = values.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UsageError(f"'{name}' is a value, not a group of settings; check --set {'.'.join(path)}")
        values = inner
    values[path[-1]] = value


def build(kind: type[T], values: Mapping[str, Any], path: str = "") -> T:
    """A dataclass from plain values, nested dataclasses included; the type of each value is checked.

    Args:
        kind: the dataclass; its annotations may be numbers, text, booleans, None, tuples, unions and dataclasses.
        values: settings as YAML gives them; what is not named keeps its default.
        path: where ``values`` stand among all settings, for messages: "" at the top, else ``blocks``.

    Returns:
        An instance of ``kind``, its lists as tuples.

    Raises:
        UsageError: if a setting is unknown or a value is of another type, or if the dataclass refuses its values.
    """
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
    """``value`` as ``kind``, a type annotation; UsageError if it is of another type."""
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
        return float(value)  # YAML 1.1 reads 1e-3 as text
    elif kind is str and isinstance(value, str):
        return value
    elif origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_convert(typing.get_args(kind)[0], item, where) for item in value)
    raise UsageError(f"'{where}' cannot be {value!r}; it takes {_name(kind)}")


def _name(kind: Any) -> str:
    """A type annotation in words, for messages."""
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "nothing"}
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return " or ".join(_name(option) for option in typing.get_args(kind))
    return "a list" if typing.get_origin(kind) is tuple else names.get(kind, str(kind))


def number_of(text: str) -> float | None:
    """The number that a setting's text is, or None if it is another word."""
    try:
        return float(text)
    except ValueError:
        return None
