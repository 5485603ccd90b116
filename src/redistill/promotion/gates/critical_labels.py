"""Recall of the critical labels, for example fraud: missing one of them is worse than missing another label."""

from __future__ import annotations

from collections.abc import Sequence

from redistill.data.grammars.record import listed_names
from redistill.data.grammars.types import Grammar
from redistill.errors import DataError
from redistill.evaluation.outcomes import items_of
from redistill.evaluation.types import Outcome
from redistill.promotion.evidence import Evidence
from redistill.promotion.gates.advice import more_rows
from redistill.promotion.gates.non_inferiority import coverage, judged_difference, shown, spread, verdict
from redistill.promotion.params import CriticalLabelsGate, PromoteParams
from redistill.promotion.types import Gate
from redistill.statistics.paired_counts import paired_counts
from redistill.statistics.shares import share_interval, share_rows_needed, share_test


def critical(evidence: Evidence, limits: CriticalLabelsGate, params: PromoteParams, level: float) -> list[Gate]:
    """One gate per label or flag and limit: its recall is shown to be above a floor (exact binomial test), or not worse than the teacher's (paired test).

    Raises:
        DataError: a name that is not a label or flag of the data.
    """
    grammar = evidence.grammar
    known = grammar.names if grammar else ()
    gates = []
    for name, limit in params.critical_labels.items():
        if grammar is None or name not in known:
            raise DataError(
                f"promote.critical_labels.{name} is no decision of the data; its labels, flags or listed values are {listed_names(known) or 'none'}"
            )
        hits = hits_by_row(name, grammar, evidence.student[1])
        if limit.floor is not None:
            gates.append(_judged(name, sum(hits.values()), len(hits), limit.floor, level, params.power, evidence.split))
        if limit.margin is not None:
            teacher = hits_by_row(name, grammar, evidence.teacher[1])
            gates.append(_against_teacher(evidence, name, hits, teacher, limit.margin, level, params.power))
    return gates


def hits_by_row(name: str, grammar: Grammar, outcomes: Sequence[Outcome]) -> dict[str, bool]:
    """For each row that has a label or flag, by ``doc_hash``: whether the response has it too."""
    return {o.doc_hash: has_item(name, grammar, o.response) for o in outcomes if has_item(name, grammar, o.target)}


def has_item(name: str, grammar: Grammar, line: str) -> bool:
    """Whether a record has a label or flag; a line that breaks the grammar has none."""
    return grammar.item_of(name) in (items_of(grammar, line) or ())


def _against_teacher(
    evidence: Evidence, name: str, hits: dict[str, bool], teacher: dict[str, bool], margin: float, level: float, power: float
) -> Gate:
    gate, rows = f"recall_{name}_against_teacher", f"{evidence.split} rows with {name}"
    if len(hits) < 2 or hits.keys() != teacher.keys():
        sentence = f"{len(hits)} {evidence.split} rows have {name}, too few to compare its recall"
        return Gate(gate, "hold", None, -margin, "points", sentence, p_value=1.0, rows=len(hits))
    counts = paired_counts(list(hits.values()), [teacher[key] for key in hits])
    sentence = f"recall of {name}: {evidence.subject} {100 * sum(hits.values()) / len(hits):.1f} % against the teacher's {100 * sum(teacher.values()) / len(hits):.1f} %"
    return judged_difference(gate, sentence, counts, margin, level, counts.p_value(margin), power, rows=rows)


def _judged(name: str, hits: int, n: int, limit: float, level: float, power: float, split: str) -> Gate:
    rows = f"{split} rows with {name}"
    if n == 0:
        # The smallest number of rows that can show it, if all of them are found.
        needed = share_rows_needed(1, 1, limit, level, power)
        sentence = f"no {split} row has {name}, so its recall is unknown; {needed:,} more {rows} would show it, if the student finds {name} in all of them"
        return Gate(f"recall_{name}", "hold", None, limit, "share", sentence, p_value=1.0, more_rows=needed, rows=0)
    p_value, interval = share_test(hits, n, limit), share_interval(hits, n, 2 * level)
    result, missing = verdict(p_value <= level, interval, limit), 0
    sentence = (
        f"{name} found in {hits} of {n} {split} rows, recall {100 * hits / n:.1f} % ({coverage(level)} interval {spread(interval)}), "
        f"one-sided p {shown(p_value, level)} for a recall of {100 * limit:g} % or less, level {level:.2g}"
    )
    if result != "pass" and hits / n <= limit:
        sentence += "; the observed recall is not above the limit, so more rows are not expected to help"
    elif result == "hold":
        needed = share_rows_needed(hits, n, limit, level, power)
        end, missing = more_rows(needed, n, rows, power, "the true recall is the observed one", "the observed recall is close to the limit")
        sentence += end
    return Gate(f"recall_{name}", result, hits / n, limit, "share", sentence, interval, 1 - 2 * level, p_value, missing, n)
