"""ShareGPT's format: ``conversations``, a list of ``{from, value}``, perhaps with ``system`` beside it."""

from __future__ import annotations

from typing import Any

from redistill.data.layouts.turns import check_row, check_turns, request_from
from redistill.data.layouts.types import Request

KEY = "conversations"
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def read(row: dict[str, Any], where: str) -> Request | None:
    turns = row.get(KEY)
    if turns is None:
        return None
    check_row(row, where)
    check_turns(turns, KEY, where)
    pairs = [(_ROLES.get(str(turn.get("from")), turn.get("from")), turn.get("value")) for turn in turns]
    return request_from([("system", row["system"]), *pairs] if row.get("system") else pairs, where)
