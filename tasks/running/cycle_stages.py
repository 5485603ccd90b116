"""Which stages a cycle has, in their order: the flow runs them, and what a cycle costs is summed over them."""

from __future__ import annotations

from pathlib import Path

import yaml

from redistill.cluster.settings import training_nodes, training_processes
from redistill.errors import ConfigError
from redistill.params import Params
from tasks.running.side_by_side import QueuedStage

BEFORE_LOCK = ("prepare", "tune_teacher")
TEACHER = ("init_student", "benchmark@teacher")
DATA = ("generate", "validate", "score")


def fitness_stage() -> tuple[str, ...]:
    """The stage that measures whether the teacher can reach the gates; nothing if this project's ``dvc.yaml`` is older than the stage."""
    return ("fitness",) if "fitness" in _declared() else ()


def heldout_stages(params: Params, *models: str) -> tuple[str, ...]:
    """The stages that measure the teacher or arms on sealed held-out rows; nothing where this project's ``dvc.yaml`` is older than the stage.

    All of them run, also where held-out rows are open and there is nothing to measure: `dvc pull` fails for a stage that never ran.

    Raises:
        ConfigError: held-out rows are sealed, but there is no such stage.
    """
    if "heldout" in _declared():
        return tuple(f"heldout@{model}" for model in models)
    if params.promote.sealed:
        raise ConfigError(
            "promote.heldout: sealed needs the stage `heldout`, but this project's dvc.yaml is older; copy the stage from a new project (`redistill init DIR`), "
            "or remove the split `monitor` from data.source"
        )
    return ()


def after_data(params: Params) -> tuple[QueuedStage, ...]:
    """Training and benchmarks of every arm that params declare, the sweep over depths that they list, and the student timed beside the teacher.

    An arm's benchmark needs its training. There are no other dependencies here, so stages run side by side, long ones first. ``timing`` comes last and
    runs without other stages.
    """
    arms = tuple(params.finetune.arms)
    baselines = (*(() if params.data.record_grammar is None else ("linear",)), "base", *_prompted(params))
    common = params.finetune.common
    calibrated = arms if "calibrate" in _declared() else ()
    # An arm that is trained on several nodes needs them all.
    trained = common.threads and common.threads * (training_processes() or common.processes) if training_nodes() == 1 else None
    return (
        *(QueuedStage(f"finetune@{a}", trained) for a in arms),
        *(QueuedStage(f"sweep@{p}", common.threads) for p in params.sweep.layers),
        *(QueuedStage(f"calibrate@{a}", params.benchmark.threads, frozenset({f"finetune@{a}"})) for a in calibrated),
        *(QueuedStage(f"benchmark@{w}", params.benchmark.threads, frozenset({f"finetune@{w}"})) for w in (*arms, *baselines)),
        *(QueuedStage(h, params.benchmark.threads, frozenset({h.replace("heldout", "finetune")})) for h in heldout_stages(params, *arms)),
        QueuedStage("timing", None, frozenset(f"finetune@{a}" for a in arms)),
    )


def _prompted(params: Params) -> tuple[str, ...]:
    """The raw teacher with examples, if this project's ``dvc.yaml`` has its line.

    Raises:
        ConfigError: params ask for it, and there is no line.
    """
    file = Path("dvc.yaml")
    benchmark = yaml.safe_load(file.read_text(encoding="utf-8"))["stages"].get("benchmark", {}) if file.is_file() else {}
    if "prompted" in benchmark.get("foreach", {}):
        return ("prompted",)
    if params.benchmark.few_shot:
        raise ConfigError(
            f"benchmark.few_shot={params.benchmark.few_shot} needs the line of the arm `prompted` under stages.benchmark.foreach in dvc.yaml: "
            "prompted: {model: artifacts/prompts/train.parquet, file: teacher.lock.json, key: current}"
        )
    return ()


def every_stage(params: Params) -> tuple[str, ...]:
    before = (*BEFORE_LOCK, *TEACHER, *heldout_stages(params, "teacher"), *fitness_stage(), *DATA)
    return (*before, *(queued.stage for queued in after_data(params)))


def _declared() -> set[str]:
    """The stages of this project's ``dvc.yaml``, which may be older than the package."""
    file = Path("dvc.yaml")
    return set(yaml.safe_load(file.read_text(encoding="utf-8"))["stages"]) if file.is_file() else set()
