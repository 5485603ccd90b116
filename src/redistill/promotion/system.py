"""The system that a decision is about: a student alone, or a student that gives requests to its teacher where it is not sure.

The outcome of a held-out row is the student's where the cascade lets it answer, and the teacher's where not. Everything that is measured of the system
follows from the two models' outcomes, so no model runs again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from redistill.data.grammars.types import Grammar
from redistill.errors import DataError
from redistill.evaluation.outcomes import objection
from redistill.evaluation.params import BenchmarkParams
from redistill.evaluation.probes.counterfactual import fairness_from
from redistill.evaluation.summary import summarise
from redistill.evaluation.types import Outcome, PairOutcome
from redistill.io.digests import canonical_digest
from redistill.promotion.cascade import Cascade, Choice
from redistill.promotion.evidence import BenchmarkResult, by_document


@dataclass(frozen=True, slots=True)
class System:
    """A cascade on the held-out rows: its scores and outcomes as of one model, and who answered each row.

    ``measured`` has the student's own cost: its parameters, memory and architecture.
    """

    cascade: Cascade
    measured: BenchmarkResult
    choices: tuple[Choice, ...]
    on_monitor: System | None = None
    """The same cascade on the rows that people look at, if the held-out rows are sealed."""

    @property
    def public(self) -> System:
        """What people may see of it."""
        return self.on_monitor or self

    @property
    def rows(self) -> int:
        return len(self.choices)

    @property
    def answered(self) -> int:
        """Rows that the student answered."""
        return sum(choice.answers == "student" for choice in self.choices)


def system_of(
    student: BenchmarkResult,
    teacher: BenchmarkResult,
    cascade: Cascade,
    grammar: Grammar | None,
    params: BenchmarkParams,
    pairs: tuple[Sequence[PairOutcome], Sequence[PairOutcome]] = ((), ()),
) -> System:
    """The cascade of a student and a teacher that were benchmarked on the same rows.

    Args:
        student: with confidences of every response.
        pairs: the student's and the teacher's responses to counterfactual pairs.
        grammar: None for free text.
        params: bootstrap and seed of the intervals.

    Raises:
        DataError: the two are not about the same rows, or the cascade belongs to other weights.
    """
    report = student[0]
    if cascade.model != report.model_digest:
        raise DataError(
            f"the cascade was calibrated for weights {cascade.model[:12]}, but the student has {report.model_digest[:12]}; run the stage `calibrate` again"
        )
    by_doc = by_document("teacher", teacher)
    if by_doc.keys() != by_document("student", student).keys():
        raise DataError("student and teacher were benchmarked on different held-out rows; benchmark both again")
    choices = [cascade.choose(outcome.confidences, outcome.objection) for outcome in student[1]]
    outcomes = [
        outcome if choice.answers == "student" else _deferred(by_doc[outcome.doc_hash])
        for outcome, choice in zip(student[1], choices, strict=True)
    ]
    identities = {
        "model": system_digest(report.model_digest, cascade, teacher[0].model_digest),
        "heldout": report.heldout_digest,
        "template": report.template_digest,
        "backend": report.backend,
    }
    whole = summarise("cascade", outcomes, grammar, report.cost, identities, params)
    fairness = None
    if report.fairness is not None and pairs[0] and pairs[1]:
        fairness = fairness_from(_pairs(cascade, grammar, *pairs), report.fairness.pairs_digest, grammar)
    measured = replace(whole, fairness=fairness, breadth=report.breadth, architecture=report.architecture)
    return System(cascade, (measured, outcomes), tuple(choices))


def system_digest(student: str, cascade: Cascade | None, teacher: str) -> str:
    """What answers: the weights of a student that is alone, or weights, score and threshold with the teacher behind them."""
    return student if cascade is None else canonical_digest([student, cascade.score, cascade.threshold, cascade.band, teacher])


def _deferred(teacher: Outcome) -> Outcome:
    """The teacher's outcome. Its confidence is not one of the student's, so it is left out."""
    return replace(teacher, confidence=None, confidences=())


def _pairs(cascade: Cascade, grammar: Grammar | None, student: Sequence[PairOutcome], teacher: Sequence[PairOutcome]) -> list[PairOutcome]:
    by_id = {pair.pair: pair for pair in teacher}
    if by_id.keys() != {pair.pair for pair in student}:
        raise DataError("student and teacher were benchmarked on different counterfactual pairs; benchmark both again")
    return [replace(pair, responses=_responses(cascade, grammar, pair, by_id[pair.pair])) for pair in student]


def _responses(cascade: Cascade, grammar: Grammar | None, student: PairOutcome, teacher: PairOutcome) -> tuple[str, str]:
    one, two = (
        mine if cascade.choose(sure, objection(grammar, mine, text)[0]).answers == "student" else theirs
        for text, mine, theirs, sure in zip(
            student.texts, student.responses, teacher.responses, student.confidences or ((), ()), strict=True
        )
    )
    return one, two
