"""Build dataclasses from JSON that anyone may have written: every field is there, of its type and in range."""

import functools
import math
from dataclasses import fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

Kind = TypeVar("Kind")
LARGEST_INT = 2**63


def checked(kind: type[Kind], values: Any) -> Kind:
    """Return a flat dataclass with these values; a list becomes a tuple where a tuple is wanted.

    Raises:
        ValueError: a field is missing, unknown or of another type; a number is huge or not finite.
    """
    types = _types(kind)
    if not isinstance(values, dict) or values.keys() != types.keys():
        raise ValueError(f"{kind.__name__} needs the fields {', '.join(types)}")
    for name, wanted in types.items():
        if not _is_of(values[name], wanted):
            raise ValueError(f"{name} of {kind.__name__} is {str(values[name])[:40]!r}")
    return kind(**{name: _converted(values[name], wanted) for name, wanted in types.items()})


@functools.cache
def _types(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}  # pyright: ignore[reportArgumentType]


def _converted(value: Any, wanted: Any) -> Any:
    return tuple(value) if get_origin(wanted) is tuple else value


def _is_of(value: Any, wanted: Any) -> bool:
    """Say whether a value from JSON is of a type: str, bool, int, float, dict[str, x], list[x], tuple[x, ...]."""
    origin, inner = get_origin(wanted) or wanted, get_args(wanted)
    if origin is dict:
        return isinstance(value, dict) and (not inner or all(_is_of(v, inner[1]) for v in value.values()))
    if origin in (list, tuple):
        return isinstance(value, list) and all(_is_of(item, inner[0]) for item in value)
    if origin is float and type(value) is not int:
        return type(value) is float and math.isfinite(value)
    if origin in (int, float):
        return type(value) is int and abs(value) < LARGEST_INT
    return type(value) is wanted
