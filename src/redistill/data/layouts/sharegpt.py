"""ShareGPT's format: ``conversations``, a list of ``{from, value}``, perhaps with ``system`` beside it."""

from __future__ import annotations

from typing import Any

from redistill.data.layouts.turns import request_from, turns_of
from redistill.data.layouts.types import Request

KEY = "conversations"
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def read(row: dict[str, Any], where: str) -> Request | None:
    if (turns := turns_of(row, KEY, where)) is None:
        return None
    pairs = [(_ROLES.get(str(turn.get("from")), turn.get("from")), turn.get("value")) for turn in turns]
    return request_from([("system", row["system"]), *pairs] if row.get("system") else pairs, where)
