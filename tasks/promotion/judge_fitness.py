"""Judges the teacher before anything is asked of it or trained for it: can a system that is as good as the teacher pass the gates?"""

from __future__ import annotations

from redistill.data.types import Prompt
from redistill.evaluation.types import Outcome
from redistill.io.parquet import read_records
from redistill.params import Params
from redistill.promotion.fitness import Fitness, fitness
from redistill.promotion.gates.critical_labels import has_item
from redistill.promotion.params import AUTO
from tasks.results.rows import HELDOUT
from tasks.stages.fitness import FITNESS


def judge_fitness(params: Params) -> Fitness | None:
    """The fitness of the locked teacher.

    None where the stage ``fitness`` has not run, where no row of it has a label, and where the candidate learns from labels alone: it may be better than the
    teacher.
    """
    arms = params.finetune.arms
    candidates = arms.values() if params.promote.arm == AUTO else (arms[params.promote.arm],)
    if all(arm.rows == "gold" for arm in candidates):
        return None
    file = FITNESS / "teacher.parquet"
    outcomes = read_records(file, Outcome) if file.is_file() else []
    if not outcomes:
        return None
    promote, grammar = params.promote, params.data.grammar
    heldout = read_records(HELDOUT, Prompt)
    rows = {name: sum(has_item(name, grammar, p.label or "") for p in heldout) for name in promote.critical_labels} if grammar else {}
    linear = read_records(FITNESS / "linear.parquet", Outcome)
    result = fitness(outcomes, linear, rows, promote, promote.alpha_per_heldout, grammar, params.validate.min_kept_share)
    for check in result.checks:
        print(f"fitness: {check.name}: {'out of reach: ' if check.reachable is False else ''}{check.sentence}")
    return result
