"""Stage ``finetune@ARM``: one student, from the same base, tokens and seed as every other arm."""

from __future__ import annotations

import os
import shutil

from redistill.cluster.settings import training_nodes, training_processes
from redistill.data.params import DataParams
from redistill.distillation.arm_params import ArmParams
from redistill.distillation.methods.base import MethodParams
from redistill.distillation.params import FinetuneCommonParams
from redistill.io.atomic import replacing_directory
from redistill.io.digests import canonical_digest, tree_digest
from redistill.io.json import write_json
from redistill.models import checkpoints
from tasks.locking.locked_code import locked_code
from tasks.paths import ARTIFACTS
from tasks.running.work_directory import work_directory
from tasks.training.arm import is_main_process, train_arm
from tasks.training.in_processes import require_same_inputs, train_in_processes


def finetune(arm: str, data: DataParams, method: MethodParams, common: FinetuneCommonParams, arm_params: ArmParams) -> None:
    """Train one arm and write its checkpoint and metrics.

    Raises:
        DataError: no rows, or soft targets or a teacher in memory that do not belong to them.
    """
    base = ARTIFACTS / "base"
    identity = [str(common), str(arm_params), str(data), str(method), *_digests(arm_params.learns_by(method), arm_params)]
    processes, nodes = training_processes() or common.processes, training_nodes()
    if max(processes, nodes) > 1 and "WORLD_SIZE" not in os.environ:
        train_in_processes(arm, processes, nodes, common.threads, _inputs(identity))
        return
    if "WORLD_SIZE" in os.environ:
        require_same_inputs(_inputs(identity))
    work = work_directory(f"finetune-{arm}", *identity)
    model, tokenizer, facts = train_arm(arm, base, work, data, method, common, arm_params)
    if is_main_process():
        with replacing_directory(ARTIFACTS / "students" / arm) as folder:
            checkpoints.save_checkpoint(model, tokenizer, folder)
        shutil.copy(work / "metrics.jsonl", ARTIFACTS / "students" / f"{arm}.metrics.jsonl")
        write_json(ARTIFACTS / "students" / f"{arm}.json", {"arm": arm, **facts})
        shutil.rmtree(work, ignore_errors=True)


def _inputs(identity: list[str]) -> str:
    """All that decides what is trained, the code too: equal in all processes, wherever they run."""
    return canonical_digest([locked_code("finetune"), *identity])


def _digests(method: MethodParams, arm: ArmParams) -> list[str]:
    paths = ["base", "prompts/train.parquet"]
    if arm.rows != "gold":
        paths.append("validated/kept.parquet")
    if "soft_targets" in method.needs:
        paths.append("soft_targets/targets")
    if "teacher_weights" in method.needs:
        paths.append("teacher")
    return [tree_digest(ARTIFACTS / p) for p in paths]
