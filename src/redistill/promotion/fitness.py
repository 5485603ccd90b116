"""Is the teacher itself good enough for the gates? If a system as good as the teacher cannot pass them, a cycle is not worth its cost.

It is judged on rows that train nothing and decide nothing: ``dev``, and calibration rows with labels. A limit is *out of reach* if the chance that a system as good
as the teacher passes its gate is below ``_LEAST``. That chance follows from the teacher's counts here and from the number of held-out rows
(a beta-binomial prediction with Jeffreys' prior), so a few rows by themselves do not make a teacher unfit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redistill.data.grammars.types import Grammar
from redistill.evaluation.outcomes import items_of
from redistill.evaluation.row_scores import NAMES, row_scores
from redistill.evaluation.types import Outcome
from redistill.promotion.gates.critical_labels import hits_by_row
from redistill.promotion.params import PromoteParams
from redistill.statistics.shares import share, share_test

_LEAST = 0.1
"""A smaller chance to pass a gate is called out of reach."""


@dataclass(frozen=True, slots=True)
class FitnessCheck:
    """One limit of the gates. ``reachable`` is None where nothing can be said, and for notes, such as a linear model that does as well."""

    name: str
    reachable: bool | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Fitness:
    checks: tuple[FitnessCheck, ...]

    @property
    def fit(self) -> bool:
        return all(check.reachable is not False for check in self.checks)

    @property
    def sentence(self) -> str:
        """What is out of reach, and what to do."""
        return "; ".join(check.sentence for check in self.checks if check.reachable is False)


def fitness(
    teacher: Sequence[Outcome],
    linear: Sequence[Outcome],
    heldout_rows: Mapping[str, int],
    params: PromoteParams,
    level: float,
    grammar: Grammar | None,
    min_kept_share: float,
) -> Fitness:
    """Judge a teacher by every absolute limit.

    Args:
        teacher: its outcomes on labelled rows that no decision depends on.
        linear: those of a linear model on the same rows; empty if there is none.
        heldout_rows: how many held-out rows have each critical label.
        level: the largest that a look can have, so that nothing is called out of reach which a look with more alpha could show.
        min_kept_share: the smallest share of completions that the stage ``validate`` accepts.
    """
    checks = [_able(teacher, params), _well_formed(teacher, grammar, min_kept_share)]
    if grammar is not None:
        for name, limit in params.critical_labels.items():
            if limit.floor is not None:
                hits = list(hits_by_row(name, grammar, teacher).values())
                checks.append(_recall(name, sum(hits), len(hits), heldout_rows.get(name, 0), limit.floor, level))
    if linear:
        checks.append(_linear(teacher, linear, params))
    return Fitness(tuple(checks))


def chance_to_pass(hits: int, n: int, rows: int, limit: float, level: float) -> float:
    """The chance that a recall above ``limit`` is shown on ``rows`` further rows, if ``hits`` of ``n`` were right here."""
    from scipy.stats import betabinom

    passing = next((k for k in range(rows + 1) if share_test(k, rows, limit) <= level), None)
    return 0.0 if passing is None else float(betabinom.sf(passing - 1, rows, hits + 0.5, n - hits + 0.5))


def _recall(name: str, hits: int, n: int, rows: int, limit: float, level: float) -> FitnessCheck:
    check = f"recall_{name}"
    seen = f"the teacher finds {name} in {hits} of {n} rows" if n else f"no row has {name}, so the teacher's recall of it is unknown"
    gate = f"a recall of {100 * limit:g} % must be shown on {rows} held-out rows"
    if not rows or share_test(rows, rows, limit) > level:
        advice = f"label more held-out rows with {name}: {rows} are too few to show it even for a model without an error"
        return FitnessCheck(check, False, f"{seen}; {gate}, which is not possible: {advice}")
    if not n:
        return FitnessCheck(check, None, f"{seen}; {gate}")
    chance = chance_to_pass(hits, n, rows, limit, level)
    if chance >= _LEAST:
        return FitnessCheck(check, True, f"{seen}; {gate}, and a system as good passes with a chance of {100 * chance:.0f} %")
    advice = f"label more training rows with {name}, use another teacher, or set another limit in promote.critical_labels"
    return FitnessCheck(check, False, f"{seen}; {gate}, and a system as good passes with a chance of {100 * chance:.1f} % only: {advice}")


def _able(teacher: Sequence[Outcome], params: PromoteParams) -> FitnessCheck:
    """Assay sensitivity: below ``promote.min_teacher``, being not worse than the teacher shows nothing."""
    scores, metric = row_scores(teacher, params.scored_by), NAMES[params.scored_by]
    mean = sum(scores) / len(scores)
    high = share(round(sum(scores)), len(scores)).interval.high
    seen = f"the teacher reaches {100 * mean:.1f} % {metric} on {len(scores)} rows, promote.min_teacher is {100 * params.floor:g} %"
    if high >= params.floor:
        return FitnessCheck("min_teacher", True, seen)
    return FitnessCheck(
        "min_teacher", False, f"{seen}: use a better teacher, label more rows to tune it, or set another promote.min_teacher"
    )


def _well_formed(teacher: Sequence[Outcome], grammar: Grammar | None, least: float) -> FitnessCheck:
    good = sum(items_of(grammar, o.response) is not None for o in teacher)
    kept = share(good, len(teacher))
    seen = f"{good} of {len(teacher)} completions of the teacher are well formed, validate.min_kept_share is {100 * least:g} %"
    if kept.interval.high >= least:
        return FitnessCheck("malformed", True, seen)
    return FitnessCheck(
        "malformed",
        False,
        f"{seen}: check the prompt template, data.record or data.schema, and generate.max_tokens, or tune the teacher longer",
    )


def _linear(teacher: Sequence[Outcome], linear: Sequence[Outcome], params: PromoteParams) -> FitnessCheck:
    of_teacher, of_linear = (sum(row_scores(outcomes, params.scored_by)) / len(outcomes) for outcomes in (teacher, linear))
    better = (
        "a linear model does as well, so a language model may not be needed" if of_linear >= of_teacher else "a linear model does less well"
    )
    return FitnessCheck(
        "linear", None, f"{better}: {100 * of_linear:.1f} % {NAMES[params.scored_by]} against the teacher's {100 * of_teacher:.1f} %"
    )
