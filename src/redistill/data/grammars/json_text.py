"""The JSON value in the text of a completion or a label."""

from __future__ import annotations

import json
import math
from typing import Any

from redistill.data.readers.files import described
from redistill.errors import DataError

_DEEPEST = 100
_FENCE = "```"


def value_in(text: str) -> Any:
    """The value. A fence around it, as chat models write it, is no part of it.

    Raises:
        DataError: it is no JSON, a key is there twice, a number is none or infinite, a character is half, or it is nested too deeply.
    """
    text = _without_fence(text.strip())
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        reason = (
            "JSON with a key twice, a number that is none, or half a character" if is_json(text) else f"no JSON value ({described(text)})"
        )
        raise DataError(reason) from None
    if _depth(value) > _DEEPEST:
        raise DataError(f"JSON with more than {_DEEPEST} levels")
    return value


def _without_fence(text: str) -> str:
    if not text.startswith(_FENCE) or not text.endswith(_FENCE) or len(text) < 2 * len(_FENCE):
        return text
    first, _, rest = text[len(_FENCE) : -len(_FENCE)].partition("\n")
    return rest if first.strip().isalpha() or not first.strip() else text


def is_json(text: str) -> bool:
    """Whether a JSON reader accepts the text, even where ``value_in`` refuses it."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        raise ValueError("a key twice")
    return tree


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(digits)
    return value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())]
    return depth
