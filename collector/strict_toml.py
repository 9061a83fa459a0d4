"""TOML in, typed objects out, and nothing passed over: a wrong key is named with the nearest one that exists."""

from __future__ import annotations

import difflib
import re
import tomllib
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from collector.errors import UsageFault

__all__ = ["strict"]

S = TypeVar("S", bound=Struct)


def strict(text: str, kind: type[S], where: str, *, see: str) -> S:
    """The TOML text as a `kind`.

    Args:
        where: what errors call the file.
        see: the page of the docs that lists the keys.

    Raises:
        UsageFault: not TOML, an unknown key, a wrong type, or a number beyond 64 bits.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise UsageFault(f"{where} is not valid TOML: {' '.join(str(e).split())}", fix="mend that line") from None
    except RecursionError:
        raise UsageFault(f"{where} is not valid TOML: it is nested too deep", fix="mend that line") from None
    _refuse_unknown(data, kind, where, "")
    _refuse_huge(data, where, see)
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as e:
        raise UsageFault(f"{where}: {_readable(str(e), data)}", fix=f"see {see}") from None


def _structs_in(hint: Any) -> type[Struct] | None:
    """The Struct that a hint holds, through Annotated, list and Optional."""
    if isinstance(hint, type) and issubclass(hint, Struct):
        return hint
    for inner in get_args(hint) if get_origin(hint) is not Literal else ():
        if found := _structs_in(inner):
            return found
    return None


def _refuse_unknown(data: dict[str, Any], kind: type[Struct], where: str, at: str) -> None:
    """Unknown keys are errors that name the file, the key, and the nearest key that exists."""
    hints = get_type_hints(kind, include_extras=True)
    for key, value in data.items():
        path = f"{at}.{key}" if at else key
        if key not in hints:
            near = difflib.get_close_matches(key, hints, 1, 0.5)
            hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(hints)}"
            raise UsageFault(f"{where}: unknown key `{path}`", fix=hint)
        if inner := _structs_in(hints[key]):
            if isinstance(value, dict):
                _refuse_unknown(value, inner, where, path)
            elif isinstance(value, list):
                for i, item in enumerate(value):
                    if isinstance(item, dict):
                        _refuse_unknown(item, inner, where, f"{path}[{i}]")


def _refuse_huge(value: Any, where: str, see: str, at: str = "") -> None:
    """TOML promises 64 bits; tomllib takes whole numbers of any length, and nothing behind it does."""
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise UsageFault(f"{where}: key `{at}`: the number does not fit into 64 bits", fix=f"see {see}")
    if isinstance(value, dict):
        for key, below in value.items():
            _refuse_huge(below, where, see, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list):
        for number, below in enumerate(value):
            _refuse_huge(below, where, see, f"{at}[{number}]")


def _readable(problem: str, data: dict[str, Any]) -> str:
    """msgspec's message with its `$.variants[0].name` path first, as a key the file holds."""
    text, _, path = problem.partition(" - at `$")
    key = path.rstrip("`").lstrip(".")
    missing = re.match(r"Object missing required field `(\w+)`", text)
    if missing:
        full = f"{key}.{missing[1]}" if key else missing[1]
        return f"key `{full}` is missing"
    return f"key `{key}`: {text[0].lower()}{text[1:]}" if key else text
