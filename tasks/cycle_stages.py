"""Which stages a cycle has, in their order: the flow runs them, and what a cycle costs is summed over them."""

from __future__ import annotations

from redistill.config import Params

BEFORE_LOCK = ("prepare", "tune_teacher")
TEACHER = ("init_student", "benchmark@teacher")
DATA = ("generate", "validate", "score")


def after_data(params: Params) -> tuple[str, ...]:
    """Training and benchmarks of every arm that params declare, the sweep over depths that they list, and the student timed beside the teacher."""
    arms = tuple(params.finetune.arms)
    baselines = ("base",) if params.data.task == "generation" else ("linear", "base")
    return (
        *(f"finetune@{a}" for a in arms),
        *(f"sweep@{p}" for p in params.sweep.layers),
        "timing",
        *(f"benchmark@{w}" for w in (*baselines, *arms)),
    )


def every_stage(params: Params) -> tuple[str, ...]:
    return (*BEFORE_LOCK, *TEACHER, *DATA, *after_data(params))
