"""May the student replace what is live?

A decision is four gates over paired outcomes on one held-out set: non-inferior to the teacher, non-inferior to the live
champion, smaller, faster. "Not significantly worse" is no gate; a loss of the margin or more must be ruled out. A student
that only lacks evidence is told how many more rows would bring it, and a linear model that would do is named.

Source: ``statistics.score_test`` (Tango 1998); ``PromoteParams`` holds margin, level and power.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from redistill.config import PromoteParams
from redistill.errors import DataError
from redistill.records import ENDPOINT, EvalReport, Gate, Outcome, PromotionDecision
from redistill.statistics import PairedCounts, difference_interval, paired_counts, rows_needed, score_test

Evidence = tuple[EvalReport, Sequence[Outcome]]
"""A report and the outcomes that it was made of."""

_DISPLAY_ALPHA = 0.05
"""Intervals shown to people are 95 % ones everywhere, whatever the level of the test."""


def decide(
    candidate: EvalReport,
    outcomes: Sequence[Outcome],
    teacher: Evidence,
    champion: Evidence | None,
    linear: Evidence | None,
    params: PromoteParams,
) -> PromotionDecision:
    """Judge a candidate by every gate; it is promoted only if it passes all, and held otherwise.

    A gate exists only where there is something to compare with: no champion, or a teacher behind an endpoint that does not
    tell its size, means no such gate. ``reasons`` are the sentences of the failing gates, or of all when promoted.

    Raises:
        DataError: reports or outcomes are not about the same rows, prompts, template or backend, or hold a NaN.
    """
    student, more_rows = (candidate, outcomes), 0
    gates = []
    for name, reference in (("teacher", teacher), ("champion", champion)):
        if reference is not None:
            counts = _pair("student", student, name, reference)
            gates.append(_non_inferior("student", student, name, reference, counts, params))
            more_rows = max(more_rows, 0 if gates[-1].passed else _missing_rows(counts, params))
    gates += _cheaper(candidate, teacher[0])
    failing = [gate for gate in gates if not gate.passed]
    reasons = [gate.sentence for gate in failing or gates]
    suffices = None if linear is None else _linear_gate(linear, teacher, params)
    if suffices is not None and suffices.passed:
        reasons.append(f"a linear model suffices: {suffices.sentence}")
    return PromotionDecision(
        verdict="hold" if failing else "promote",
        reasons=tuple(reasons),
        gates=tuple(gates),
        more_rows=more_rows,
        linear_suffices=suffices is not None and suffices.passed,
    )


def holds(
    champion: EvalReport,
    champion_outcomes: Sequence[Outcome],
    teacher: EvalReport,
    teacher_outcomes: Sequence[Outcome],
    params: PromoteParams,
) -> Gate:
    """Re-test a live champion against the teacher as it is today, by the gate that once let it pass.

    A new teacher version may have overtaken it; where the gate fails, traffic goes back to the teacher.

    Raises:
        DataError: as ``decide``.
    """
    live, reference = (champion, champion_outcomes), (teacher, teacher_outcomes)
    return _non_inferior("champion", live, "teacher", reference, _pair("champion", live, "teacher", reference), params)


def _linear_gate(linear: Evidence, teacher: Evidence, params: PromoteParams) -> Gate:
    """The same test for the linear arm; it has no inference backend, so that is the one thing not compared."""
    counts = _pair("linear model", linear, "teacher", teacher, same_backend=False)
    return _non_inferior("linear model", linear, "teacher", teacher, counts, params)


def _non_inferior(subject: str, own: Evidence, other: str, reference: Evidence, counts: PairedCounts, params: PromoteParams) -> Gate:
    p_value, interval = score_test(counts, params.margin), difference_interval(counts, _DISPLAY_ALPHA)
    passed = p_value <= params.alpha
    sentence = (
        f"{subject} {100 * _exact_share(own):.1f} % exact match against the {other}'s {100 * _exact_share(reference):.1f} %: "
        f"difference {100 * counts.difference:z.1f} points (95 % interval {100 * interval.low:z.1f} to {100 * interval.high:z.1f}), "
        f"one-sided p {_shown(p_value, params.alpha)} for a loss of {100 * params.margin:g} points or more, limit {params.alpha:g}"
    )
    if not passed and (missing := _missing_rows(counts, params)):
        sentence += f"; {missing:,} more held-out rows (now {counts.n:,}) would show it with {100 * params.power:g} % power, "
        sentence += "were the difference as observed"
    elif not passed:
        sentence += "; the observed loss is as large as the margin, so more rows are not expected to help"
    return Gate(f"non_inferior_to_{other}", passed, p_value, params.alpha, interval, sentence)


def _missing_rows(counts: PairedCounts, params: PromoteParams) -> int:
    """How many more rows the observed difference needs; 0 when it is itself beyond the margin."""
    return max(0, rows_needed(counts, params.margin, params.alpha, params.power) - counts.n)


def _cheaper(candidate: EvalReport, teacher: EvalReport) -> list[Gate]:
    """The gates ``smaller`` and ``faster``: as good as the teacher is not enough to replace it."""
    gates, own, other = [], candidate.cost, teacher.cost
    if own.parameters is None:
        raise DataError("the student's report has no number of parameters; benchmark it from its weights, not through an endpoint")
    if other.parameters is not None:
        smaller = own.parameters < other.parameters
        sentence = f"student has {own.parameters:,} parameters, the teacher {other.parameters:,}"
        gates.append(Gate("smaller", smaller, own.parameters, other.parameters, None, sentence + ("" if smaller else ": not fewer")))
    faster = own.latency_p50_s < other.latency_p50_s
    sentence = f"student answers in {1000 * own.latency_p50_s:.1f} ms at the median, the teacher in {1000 * other.latency_p50_s:.1f} ms"
    gates.append(Gate("faster", faster, own.latency_p50_s, other.latency_p50_s, None, sentence + ("" if faster else ": not faster")))
    return gates


def _pair(subject: str, own: Evidence, other: str, reference: Evidence, same_backend: bool = True) -> PairedCounts:
    """Match rows by ``doc_hash``, after making sure that both models were asked the very same thing."""
    same_backend = same_backend and reference[0].backend != ENDPOINT
    for what in ("heldout_digest", "template_digest", "backend") if same_backend else ("heldout_digest", "template_digest"):
        mine, theirs = getattr(own[0], what), getattr(reference[0], what)
        if mine != theirs:
            raise DataError(f"{subject} and {other} differ in {what} ({mine} against {theirs}): not comparable; benchmark both again")
    rows, others = _by_document(subject, own), _by_document(other, reference)
    if rows.keys() != others.keys():
        odd = sorted(rows.keys() ^ others.keys())
        raise DataError(
            f"{subject} and {other} answered different held-out rows: {len(odd)} doc_hash values are in one only, such as {odd[0]}; "
            "benchmark both again on one held-out file"
        )
    for key, row in rows.items():
        if row.prompt_hash != others[key].prompt_hash:
            raise DataError(f"{subject} and {other} saw different prompts for doc_hash {key}; benchmark both again with one template")
    keys = sorted(rows)
    return paired_counts([rows[k].exact for k in keys], [others[k].exact for k in keys])


def _by_document(who: str, evidence: Evidence) -> dict[str, Outcome]:
    """Outcomes by ``doc_hash``, checked against the report that they belong to."""
    report, outcomes = evidence
    numbers = {"exact_match": report.exact_match.value, "f1": report.f1.value, "latency_p50_s": report.cost.latency_p50_s}
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise DataError(f"the {who}'s {name} is {value}, no number to decide on; benchmark it again")
    rows = {outcome.doc_hash: outcome for outcome in outcomes}
    if len(rows) != len(outcomes):
        raise DataError(f"{len(outcomes) - len(rows)} of the {who}'s {len(outcomes)} outcomes repeat a doc_hash; each row counts once")
    if len(rows) != report.n or (rows and abs(_exact_share(evidence) - report.exact_match.value) > 0.5 / len(rows)):
        raise DataError(
            f"the {who}'s report (n={report.n}, exact match {report.exact_match.value:.4f}) was not made of these {len(rows)} outcomes; "
            "one of the two files is stale: benchmark it again"
        )
    return rows


def _exact_share(evidence: Evidence) -> float:
    return sum(outcome.exact for outcome in evidence[1]) / len(evidence[1])


def _shown(p_value: float, limit: float) -> str:
    """A p-value with three decimals, or more where three would put it on the limit."""
    if p_value < 0.001 <= limit:
        return "< 0.001"
    return f"= {p_value:.3f}" if abs(p_value - limit) > 0.0005 else f"= {p_value:.6f}"
