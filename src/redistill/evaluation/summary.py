"""From outcomes to a report of one model: exact match, F1 over fields and slices, calibration; and the report as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from redistill.data.grammars.types import Grammar
from redistill.evaluation.outcomes import items_of
from redistill.evaluation.params import BenchmarkParams
from redistill.evaluation.probes.calibration import calibration
from redistill.evaluation.row_scores import chrf_scores
from redistill.evaluation.types import Calibration, Cost, EvalReport, Outcome
from redistill.statistics.bootstrap import bootstrap_f1
from redistill.statistics.shares import share


def summarise(
    who: str, outcomes: Sequence[Outcome], grammar: Grammar | None, cost: Cost, identities: dict[str, str], params: BenchmarkParams
) -> EvalReport:
    """Scores with intervals over all rows, per field and per slice."""
    exact = [o.exact for o in outcomes]
    counts = np.array([[o.true_positives, o.false_positives, o.false_negatives] for o in outcomes])
    fields = {}
    for name in grammar.fields if grammar else ("text",):
        rows = np.array([_field_counts(o, name, grammar) for o in outcomes])
        fields[name] = bootstrap_f1(rows[:, 0], rows[:, 1], rows[:, 2], params.bootstrap, params.seed)
    slices = {
        s: share(sum(o.exact for o in outcomes if o.slice == s), sum(o.slice == s for o in outcomes))
        for s in sorted({o.slice for o in outcomes})
    }
    return EvalReport(
        who=who,
        model_digest=identities["model"],
        heldout_digest=identities["heldout"],
        template_digest=identities["template"],
        n=len(outcomes),
        exact_match=share(sum(exact), len(exact)),
        f1=bootstrap_f1(counts[:, 0], counts[:, 1], counts[:, 2], params.bootstrap, params.seed),
        fields=fields,
        slices=slices,
        cost=cost,
        malformed=sum(items_of(grammar, o.response) is None for o in outcomes),
        backend=identities["backend"],
        calibration=_calibration(outcomes, params),
        chrf=None if grammar else _chrf(outcomes),
    )


def malformed_freely(outcomes: Sequence[Outcome], grammar: Grammar | None) -> int:
    """How many responses break the grammar where nothing holds the model to it."""
    return sum(items_of(grammar, o.response if o.freely is None else o.freely) is None for o in outcomes)


def _calibration(outcomes: Sequence[Outcome], params: BenchmarkParams) -> Calibration | None:
    sure = [o.confidence for o in outcomes if o.confidence is not None]
    if len(sure) < len(outcomes):
        return None
    return calibration(sure, [o.exact for o in outcomes], params.bootstrap, params.seed)


def _chrf(outcomes: Sequence[Outcome]) -> float:
    """Mean chrF of the rows of free text, as the gates compare them."""
    return float(np.mean(chrf_scores([(o.target, o.response) for o in outcomes])))


def _field_counts(outcome: Outcome, name: str, grammar: Grammar | None) -> tuple[int, int, int]:
    expected = {x for x in items_of(grammar, outcome.target) or () if x[0] == name}
    predicted = {x for x in items_of(grammar, outcome.response) or () if x[0] == name}
    return len(expected & predicted), len(predicted - expected), len(expected - predicted)


def report_from_json(tree: dict[str, Any]) -> EvalReport:
    """An EvalReport from its JSON form.

    Earlier versions wrote a calibration error with an interval that was wrong. That part of their reports is left out.
    """
    from pydantic import TypeAdapter

    if "ece" in (tree.get("calibration") or {}):
        tree = {**tree, "calibration": None}
    return TypeAdapter(EvalReport).validate_python(tree)


def report_to_json(report: EvalReport) -> dict[str, Any]:
    return dataclasses.asdict(report)
