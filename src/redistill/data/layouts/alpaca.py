"""Alpaca's format: ``instruction``, perhaps with ``input``, and the completion in ``output``."""

from __future__ import annotations

from typing import Any

from redistill.data.layouts.turns import check_row, request_from
from redistill.data.layouts.types import Request

KEY = "instruction"


def read(row: dict[str, Any], where: str) -> Request | None:
    instruction, context = row.get(KEY), row.get("input")
    if instruction is None:
        return None
    check_row(row, where)
    text = f"{instruction}\n\n{context}" if isinstance(instruction, str) and isinstance(context, str) and context.strip() else instruction
    system = [("system", row["system"])] if row.get("system") else []
    request = request_from([*system, ("user", text)], where)
    return Request(request.messages, row.get("output"))
