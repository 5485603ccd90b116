"""What a decision stands on, and the proof that its parts are about the same rows and prompts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from redistill.data.record_grammar import RecordGrammar
from redistill.errors import DataError
from redistill.evaluation.row_scores import row_scores
from redistill.evaluation.timing import Timing
from redistill.evaluation.types import EvalReport, Metric, Outcome
from redistill.io.digests import canonical_digest
from redistill.promotion.alpha_spending import heldout_identity
from redistill.promotion.params import PromoteParams
from redistill.promotion.types import Audit
from redistill.statistics.betting import PairedScores, paired_scores
from redistill.statistics.paired_counts import PairedCounts, paired_counts
from redistill.teacher.types import ENDPOINT

BenchmarkResult = tuple[EvalReport, Sequence[Outcome]]
"""A report and the outcomes that it was made of."""

Paired = PairedCounts | PairedScores
"""Two models on the same rows: right or wrong, or graded. Both have a test, an interval, and the rows that they lack."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same rows by one metric: their mean scores, and what their paired test stands on.

    ``any_right`` says whether either of them scores anything on any row.
    """

    metric: Metric
    candidate: float
    reference: float
    any_right: bool
    paired: Paired


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that gates may look at. What does not exist (no champion yet, no linear arm, foreign training rows) is None."""

    student: BenchmarkResult
    teacher: BenchmarkResult
    champion: BenchmarkResult | None = None
    reference: BenchmarkResult | None = None
    linear: BenchmarkResult | None = None
    audit: Audit | None = None
    grammar: RecordGrammar | None = None
    unmeasured: dict[str, str] = field(default_factory=dict)
    """Champion, reference or timing that could not be measured, and why; their gates hold."""
    timing: Timing | None = None
    """The student's architecture beside the teacher."""

    @property
    def is_champion(self) -> bool:
        """The student is what is live already; judging it again promotes nobody."""
        return self.champion is not None and self.champion[0].model_digest == self.student[0].model_digest

    @property
    def rows(self) -> str:
        """Which held-out set this is about, by its rows."""
        return heldout_identity((o.prompt_id, o.target) for o in self.student[1])

    def question(self, params: PromoteParams) -> str:
        """Digest of what is asked of the held-out set: which models with which answers, which gates. The same question is the same look.

        The answers count: weights that are measured once more, in other batches, answer a little differently, and need a new decision.
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
        # Left out where nothing was chosen, so that a look that was taken before there was a choice stays the same look.
        chosen = [] if params.scored_by == "exact_match" and params.min_teacher is None else [params.scored_by, params.floor]
        asked = [self.rows, student.template_digest, models, gates, params.critical_labels, params.alpha_per_heldout, *chosen]
        return canonical_digest(asked)


def _flips(report: EvalReport) -> list[str]:
    """What was seen on counterfactual pairs, as a digest; nothing where none were asked."""
    told = report.fairness
    return [] if told is None else [canonical_digest([told.pairs_digest, [[f.pair, *f.responses] for f in told.flips]])]


def pair(
    subject: str,
    own: BenchmarkResult,
    other: str,
    reference: BenchmarkResult,
    metric: Metric,
    *,
    same_backend: bool = True,
    within: str | None = None,
) -> Comparison:
    """Match rows by ``doc_hash``, after making sure that both models were asked the very same thing; ``within`` is one slice.

    Raises:
        DataError: reports or outcomes are not about the same rows, prompts, template or backend, or hold a NaN.
    """
    same_backend = same_backend and reference[0].backend != ENDPOINT
    for what in ("heldout_digest", "template_digest", "backend") if same_backend else ("heldout_digest", "template_digest"):
        mine, theirs = getattr(own[0], what), getattr(reference[0], what)
        if mine != theirs:
            raise DataError(f"{subject} and {other} differ in {what} ({mine} against {theirs}): not comparable; benchmark both again")
    rows, others = by_document(subject, own), by_document(other, reference)
    if rows.keys() != others.keys():
        odd = sorted(rows.keys() ^ others.keys())
        raise DataError(
            f"{subject} and {other} answered different held-out rows: {len(odd)} doc_hash values are in one only, such as {odd[0]}; "
            "benchmark both again on one held-out file"
        )
    for key, row in rows.items():
        if row.prompt_hash != others[key].prompt_hash:
            raise DataError(f"{subject} and {other} saw different prompts for doc_hash {key}; benchmark both again with one template")
    # In the order of a hash, which knows nothing of the scores: the test of graded ones plays them one after the other.
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
            raise DataError(f"the {who}'s {name} is {value}, no number to decide on; benchmark it again")
    rows = {outcome.doc_hash: outcome for outcome in outcomes}
    if len(rows) != len(outcomes):
        raise DataError(f"{len(outcomes) - len(rows)} of the {who}'s {len(outcomes)} outcomes repeat a doc_hash; each row counts once")
    if len(rows) != report.n or (rows and abs(exact_share(measured) - report.exact_match.value) > 0.5 / len(rows)):
        raise DataError(
            f"the {who}'s report (n={report.n}, exact match {report.exact_match.value:.4f}) was not made of these {len(rows)} outcomes; "
            "one of the two files is stale: benchmark it again"
        )
    return rows


def exact_share(measured: BenchmarkResult) -> float:
    return sum(outcome.exact for outcome in measured[1]) / len(measured[1])
