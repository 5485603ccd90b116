"""How the report writes numbers, times and names: the filters of its templates."""

from __future__ import annotations

import datetime as dt
import difflib
import math
import re
from typing import Any

from markupsafe import Markup, escape

DASH = "–"


def number(value: Any, scale: float = 1.0, digits: int = 1, unit: str = "") -> str:
    """A number as text: thousands separated, a true minus sign, and a dash if it is not a finite number."""
    found = finite(value)
    return DASH if found is None else f"{found * scale:z,.{digits}f}".replace("-", "\u2212") + unit


def percent(value: Any) -> str:
    """A share as percent with its sign, or a dash."""
    return number(value, 100, unit="\u00a0%")


def words(name: Any) -> str:
    """A name from the code as words."""
    return str(name).replace("_", " ")


def moment(value: Any) -> str:
    """A date and time as people write it; anything that is none stays as it is."""
    try:
        return dt.datetime.fromisoformat(str(value)).strftime("%-d %B %Y, %H:%M %Z").strip()
    except ValueError:
        return str(value)


def minute(value: Any) -> str:
    """A date and time in a table."""
    try:
        return dt.datetime.fromisoformat(str(value)).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return str(value)


def duration(seconds: Any) -> str:
    """Hours, minutes and seconds; the two that matter."""
    found = finite(seconds)
    if found is None:
        return DASH
    minutes, rest = divmod(round(found), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{found:.1f} s"


def limits(bounds: dict[str, Any] | None) -> str:
    """The limits of a batch rule."""
    low, high = (bounds or {}).get("min_value"), (bounds or {}).get("max_value")
    if low is not None and high is not None:
        return f"{low} to {high}"
    return f"at least {low}" if low is not None else f"at most {high}" if high is not None else DASH


def gate_title(name: str) -> str:
    """``non_inferior_to_teacher`` as "Non-inferior to the teacher", ``recall_fraud`` as "Recall of fraud"."""
    for prefix, said in (("non_inferior_to_", "Non-inferior to the "), ("slice_", "Slice "), ("recall_", "Recall of ")):
        if name.startswith(prefix):
            return said + words(name.removeprefix(prefix))
    named = {"audit": "Training rows audited", "looks": "Looks at the held-out set", "fairness": "Counterfactual fairness"}
    return named.get(name, words(name).capitalize())


def differing(answer: Any, label: Any) -> Markup:
    """A completion with its wrong words marked and the missing words inserted as deleted; words and separators are compared."""
    tokens, aim = (re.findall(r"\s+|[;+=]|[^\s;+=]+", str(text or "")) for text in (answer, label))
    if len(tokens) * len(aim) > 1_000_000:  # the comparison is quadratic
        return escape(answer)
    shown = Markup("")
    for kind, a, b, c, d in difflib.SequenceMatcher(None, aim, tokens, autojunk=False).get_opcodes():
        if kind == "equal":
            shown += "".join(tokens[c:d])
            continue
        if d > c:
            shown += Markup("<mark>{}</mark>").format("".join(tokens[c:d]))
        if b > a:
            shown += Markup('<del><span class="aside">missing: </span>{}</del>').format("".join(aim[a:b]))
    return shown or Markup('<span class="muted">(empty)</span>')


def finite(value: Any) -> float | None:
    """The value as a float; None if it is no finite number."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


FILTERS = (number, percent, words, moment, minute, duration, differing, limits, gate_title)
