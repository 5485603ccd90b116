"""Recall of the critical labels, for example fraud: missing one of them is worse than missing another label."""

from __future__ import annotations

from redistill.errors import DataError
from redistill.evaluation.outcomes import items_of
from redistill.promotion.evidence import Evidence
from redistill.promotion.gates.advice import more_rows
from redistill.promotion.gates.non_inferiority import coverage, shown, spread, verdict
from redistill.promotion.params import CriticalLabelsGate, PromoteParams
from redistill.promotion.types import Gate
from redistill.statistics.shares import share_interval, share_rows_needed, share_test


def critical(evidence: Evidence, limits: CriticalLabelsGate, params: PromoteParams, level: float) -> list[Gate]:
    """One gate per label or flag: its recall is shown to be above its limit, by the exact binomial test.

    Raises:
        DataError: a name that is not a label or flag of the data.
    """
    grammar = evidence.grammar
    known = (*grammar.labels, *grammar.flags) if grammar else ()
    gates = []
    for name, limit in params.critical_labels.items():
        if grammar is None or name not in known:
            raise DataError(
                f"promote.critical_labels.{name} is not a label or flag of the data; the labels and flags are {', '.join(known) or 'none'}"
            )
        item = ("label", name) if name in grammar.labels else (name, "yes")
        rows = [o for o in evidence.student[1] if item in (items_of(grammar, o.target) or ())]
        hits = sum(item in (items_of(grammar, o.response) or ()) for o in rows)
        gates.append(_judged(name, hits, len(rows), limit, level, params.power))
    return gates


def _judged(name: str, hits: int, n: int, limit: float, level: float, power: float) -> Gate:
    rows = f"held-out rows with {name}"
    if n == 0:
        # The smallest number of rows that can show it, if all of them are found.
        needed = share_rows_needed(1, 1, limit, level, power)
        sentence = f"no held-out row has {name}, so its recall is unknown; {needed:,} more {rows} would show it, if the student finds {name} in all of them"
        return Gate(f"recall_{name}", "hold", None, limit, "share", sentence, p_value=1.0, more_rows=needed)
    p_value, interval = share_test(hits, n, limit), share_interval(hits, n, 2 * level)
    result, missing = verdict(p_value <= level, interval, limit), 0
    sentence = (
        f"{name} found in {hits} of {n} held-out rows, recall {100 * hits / n:.1f} % ({coverage(level)} interval {spread(interval)}), "
        f"one-sided p {shown(p_value, level)} for a recall of {100 * limit:g} % or less, level {level:.2g}"
    )
    if result != "pass" and hits / n <= limit:
        sentence += "; the observed recall is not above the limit, so more rows are not expected to help"
    elif result == "hold":
        needed = share_rows_needed(hits, n, limit, level, power)
        end, missing = more_rows(needed, n, rows, power, "the true recall is the observed one", "the observed recall is close to the limit")
        sentence += end
    return Gate(f"recall_{name}", result, hits / n, limit, "share", sentence, interval, 1 - 2 * level, p_value, missing)
