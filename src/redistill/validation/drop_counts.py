"""How many rows were dropped, by which filter and why: as lines for the log, as a summary, and as the reason of an error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from redistill.validation.types import DroppedRow

_REMEDIES = {
    "language": "list it in intake.languages",
    "length": "see intake.min_chars and intake.max_chars",
    "near_duplicate": "give rows with other texts, or raise intake.near_duplicate",
    "decontamination": "give the source of held-out rows a smaller share, or raise intake.near_duplicate",
    "personal_data": "remove it from the source, or set intake.pii: false",
    "secrets": "remove it from the source, or set intake.secrets: false",
    "profanity": "remove it from the source, or set intake.profanity: false",
}
_MOST_REASONS = 4


def counts(dropped: Sequence[DroppedRow]) -> list[dict[str, Any]]:
    """Filter, reason and number of rows, as the summary of a stage has them."""
    reasons = Counter((d.filter, d.reason) for d in dropped)
    return [{"filter": f, "reason": r, "rows": n} for (f, r), n in sorted(reasons.items())]


def lines(stage: str, dropped: Sequence[DroppedRow]) -> list[str]:
    """What a stage prints of the rows that it dropped."""
    return [f"[{stage}] dropped {c['rows']}: {c['filter']}: {c['reason']}" for c in counts(dropped)]


def explained(dropped: Sequence[DroppedRow], rows: int) -> str:
    """How many of ``rows`` were dropped and why, with what to do about the most frequent reason; empty where none was."""
    if not dropped:
        return ""
    listed = sorted(counts(dropped), key=lambda c: (-c["rows"], c["filter"], c["reason"]))
    shown = ", ".join(f"{c['filter']} {c['reason']} {c['rows']}" for c in listed[:_MOST_REASONS])
    more = len(listed) - _MOST_REASONS
    rest = f" and {more} more reason{'s' * (more > 1)}" if more > 0 else ""
    return f"{len(dropped)} of {rows} rows dropped: {shown}{rest}; {_REMEDIES[listed[0]['filter']]}"
