"""The evidence for a decision, checked to be about the same rows and prompts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from redistill.data.grammars.types import Grammar
from redistill.errors import DataError
from redistill.evaluation.row_scores import row_scores
from redistill.evaluation.timing import Timing
from redistill.evaluation.types import EvalReport, Metric, Outcome
from redistill.io.digests import canonical_digest
from redistill.promotion.alpha_spending import heldout_identity
from redistill.promotion.params import PromoteParams
from redistill.promotion.types import Audit, Mode
from redistill.statistics.betting import PairedScores, paired_scores
from redistill.statistics.paired_counts import PairedCounts, paired_counts
from redistill.statistics.shares import share_interval
from redistill.statistics.types import Interval, Score
from redistill.teacher.types import ENDPOINT

BenchmarkResult = tuple[EvalReport, Sequence[Outcome]]
"""A report and the outcomes that it summarises."""

Paired = PairedCounts | PairedScores
"""Two models on the same rows, with right or wrong outcomes or with graded scores. Both have a test, an interval, and a number of missing rows."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same rows by one metric: their mean scores, and the paired data of their test.

    ``any_right`` says whether either of them scores anything on any row.
    """

    metric: Metric
    candidate: float
    reference: float
    any_right: bool
    paired: Paired


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that gates may use. What does not exist (no champion yet, no linear arm, unknown training rows) is None."""

    student: BenchmarkResult
    teacher: BenchmarkResult
    champion: BenchmarkResult | None = None
    reference: BenchmarkResult | None = None
    linear: BenchmarkResult | None = None
    audit: Audit | None = None
    grammar: Grammar | None = None
    unmeasured: dict[str, str] = field(default_factory=dict)
    """Champion, reference or timing that could not be measured, and why; their gates hold."""
    timing: Timing | None = None
    """Times of the student's architecture and of the teacher."""
    answered: int | None = None
    """Held-out rows that the student of a cascade answers; None for a student alone. In a cascade, ``student`` has the outcomes of the whole system."""
    split: str = "held-out"
    """What the rows are called in sentences."""
    on_monitor: Evidence | None = None
    """The same about the rows that people look at, if the held-out rows are sealed."""

    @property
    def public(self) -> Evidence:
        """What counterfactual pairs are judged on: they are not about held-out rows, so everyone may see them."""
        return self.on_monitor or self

    @property
    def requests(self) -> tuple[int, int]:
        """Rows that the student of a cascade answers, and all rows, of those on which nothing was trained or calibrated.

        Who answers a row depends on the request and not on its label. So sealed rows count too, and their number tells nothing about quality.
        """
        parts = [part for part in (self, self.on_monitor) if part is not None]
        return sum(part.answered or 0 for part in parts), sum(len(part.student[1]) for part in parts)

    @property
    def requests_from(self) -> str:
        """What the rows of ``requests`` are called in sentences."""
        return self.split if self.on_monitor is None else f"{self.split} and {self.on_monitor.split}"

    @property
    def subject(self) -> Mode:
        """What is judged, as the gates' sentences call it."""
        return "student" if self.answered is None else "cascade"

    @property
    def deferral(self) -> Score:
        """Share of the requests that go to the teacher, with its exact 95 % interval; 0 for a student alone."""
        if self.answered is None:
            return Score(0.0, Interval(0.0, 0.0))
        answered, n = self.requests
        return Score(1 - answered / n, share_interval(n - answered, n, 0.05))

    @property
    def is_champion(self) -> bool:
        """The student is live already, so judging it again promotes nothing."""
        return self.champion is not None and self.champion[0].model_digest == self.student[0].model_digest

    @property
    def rows(self) -> str:
        """Digest of the held-out rows."""
        return heldout_identity((o.prompt_id, o.target) for o in self.student[1])

    def question(self, params: PromoteParams) -> str:
        """Digest of the inputs of a decision: models with their completions, gates and limits. The same digest is the same look.

        Completions are included: if the same weights are measured again in other batches, they differ a little and need a new decision.
        """
        models = {
            who: [
                measured[0].model_digest,
                canonical_digest(sorted([o.doc_hash, o.response, o.exact] for o in measured[1])),
                *_flips(measured[0]),
            ]
            for who in ("student", "teacher", "champion", "reference")
            if (measured := getattr(self, who)) is not None
        }
        student = self.student[0]
        gates = [dataclasses.asdict(gate) for gate in params.gates]
        # Left out for the default metric, so that looks from before there was a choice of metrics stay the same looks.
        chosen = [] if params.scored_by == "exact_match" and params.min_teacher is None else [params.scored_by, params.floor]
        key_parts = [self.rows, student.template_digest, models, gates, _limits(params), params.alpha_per_heldout, *chosen]
        return canonical_digest(key_parts)


def _limits(params: PromoteParams) -> dict[str, object]:
    """A floor alone is a number, so that looks from before there were margins stay the same looks."""
    return {label: limit.floor if limit.margin is None else [limit.floor, limit.margin] for label, limit in params.critical_labels.items()}


def _flips(report: EvalReport) -> list[str]:
    """Digest of the flips on counterfactual pairs; an empty list if there are no pairs."""
    fairness = report.fairness
    return [] if fairness is None else [canonical_digest([fairness.pairs_digest, [[f.pair, *f.responses] for f in fairness.flips]])]


def pair(
    subject: str,
    candidate: BenchmarkResult,
    other: str,
    reference: BenchmarkResult,
    metric: Metric,
    *,
    same_backend: bool = True,
    within: str | None = None,
) -> Comparison:
    """Match rows by ``doc_hash``, and check that both models had the same rows and prompts; ``within`` is one slice.

    Raises:
        DataError: reports or outcomes are not about the same rows, prompts, template or backend, or hold a NaN.
    """
    same_backend = same_backend and reference[0].backend != ENDPOINT
    for what in ("heldout_digest", "template_digest", "backend") if same_backend else ("heldout_digest", "template_digest"):
        candidate_value, reference_value = getattr(candidate[0], what), getattr(reference[0], what)
        if candidate_value != reference_value:
            raise DataError(
                f"{subject} and {other} differ in {what} ({candidate_value} against {reference_value}): not comparable; benchmark both again"
            )
    rows, others = by_document(subject, candidate), by_document(other, reference)
    if rows.keys() != others.keys():
        odd = sorted(rows.keys() ^ others.keys())
        raise DataError(
            f"{subject} and {other} were benchmarked on different held-out rows: {len(odd)} doc_hash values are in one only, such as {odd[0]}; "
            "benchmark both again on the same held-out file"
        )
    for key, row in rows.items():
        if row.prompt_hash != others[key].prompt_hash:
            raise DataError(f"{subject} and {other} had different prompts for doc_hash {key}; benchmark both again with the same template")
    # In the order of a hash, which does not depend on the scores, because the test of graded scores uses the rows one after the other.
    keys = [key for key in sorted(rows) if within is None or rows[key].slice == within]
    return _compared([rows[k] for k in keys], [others[k] for k in keys], metric)


def _compared(rows: Sequence[Outcome], others: Sequence[Outcome], metric: Metric) -> Comparison:
    candidate, reference = row_scores(rows, metric), row_scores(others, metric)
    paired = (
        paired_counts([o.exact for o in rows], [o.exact for o in others])
        if metric == "exact_match"
        else paired_scores(candidate, reference)
    )
    n = len(rows)
    return Comparison(metric, math.fsum(candidate) / n, math.fsum(reference) / n, any(candidate) or any(reference), paired)


def by_document(who: str, measured: BenchmarkResult) -> dict[str, Outcome]:
    """Outcomes by ``doc_hash``, checked against the report that they belong to."""
    report, outcomes = measured
    numbers = {"exact_match": report.exact_match.value, "f1": report.f1.value}
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise DataError(f"{name} of the {who} is {value}, which is not a number; benchmark it again")
    rows = {outcome.doc_hash: outcome for outcome in outcomes}
    if len(rows) != len(outcomes):
        raise DataError(
            f"{len(outcomes) - len(rows)} of the {len(outcomes)} outcomes of the {who} repeat a doc_hash, but each row must occur once; benchmark it again"
        )
    if len(rows) != report.n or (rows and abs(exact_share(measured) - report.exact_match.value) > 0.5 / len(rows)):
        raise DataError(
            f"the report of the {who} (n={report.n}) and its {len(rows)} outcomes do not belong "
            "together; one of the two files is old: benchmark it again"
        )
    return rows


def exact_share(measured: BenchmarkResult) -> float:
    return sum(outcome.exact for outcome in measured[1]) / len(measured[1])
