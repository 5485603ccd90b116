"""Stage ``finetune@ARM``: one student, from the same base, tokens and seed as every other arm."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

from redistill.data.params import DataParams
from redistill.distillation.arm_params import ArmParams
from redistill.distillation.methods.base import MethodParams
from redistill.distillation.params import FinetuneCommonParams
from redistill.errors import ConfigError, DataError, TeacherError
from redistill.io.atomic import replacing_directory
from redistill.io.digests import tree_digest
from redistill.io.json import write_json
from redistill.models import checkpoints
from redistill.runtime.cpu import usable_cores
from tasks.paths import ARTIFACTS
from tasks.running.work_directory import work_directory
from tasks.training.arm import is_main_process, train_arm

_EXITED = re.compile(r"exitcode\s*:\s*(\d+)")


def finetune(arm: str, data: DataParams, method: MethodParams, common: FinetuneCommonParams, arm_params: ArmParams) -> None:
    """Train one arm and write its checkpoint and metrics.

    Raises:
        DataError: no rows, or soft targets or a teacher in memory that do not belong to them.
    """
    if common.processes > 1 and "WORLD_SIZE" not in os.environ:
        _in_processes(arm, common.processes, common.threads or max(1, usable_cores() // common.processes))
        return
    base = ARTIFACTS / "base"
    identity = [str(common), str(arm_params), str(data), str(method), *_digests(arm_params.learns_by(method), arm_params)]
    work = work_directory(f"finetune-{arm}", *identity)
    model, tokenizer, facts = train_arm(arm, base, work, data, method, common, arm_params)
    if is_main_process():
        with replacing_directory(ARTIFACTS / "students" / arm) as folder:
            checkpoints.save_checkpoint(model, tokenizer, folder)
        shutil.copy(work / "metrics.jsonl", ARTIFACTS / "students" / f"{arm}.metrics.jsonl")
        write_json(ARTIFACTS / "students" / f"{arm}.json", {"arm": arm, **facts})
        shutil.rmtree(work, ignore_errors=True)


def _digests(method: MethodParams, arm: ArmParams) -> list[str]:
    paths = ["base", "prompts/train.parquet"]
    if arm.rows != "gold":
        paths.append("validated/kept.parquet")
    if "soft_targets" in method.needs:
        paths.append("soft_targets/targets")
    if "teacher_weights" in method.needs:
        paths.append("teacher")
    return [tree_digest(ARTIFACTS / p) for p in paths]


def _in_processes(arm: str, processes: int, threads: int) -> None:
    """The same stage in several processes that share each batch; torchrun's rendezvous stays on this machine.

    Each process is a fork of the cycle's fork server where there is one: otherwise every one of them would load all libraries again.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command += [f"--nproc-per-node={processes}", "-m", "tasks.running.run_stage", "finetune", arm]
    # torchrun's own code is always 1, and every process says the same.
    code, errors = 1, dict[str, None]()
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as children:
        assert children.stderr is not None
        for line in children.stderr:
            if line.startswith("error: "):
                errors[line.removeprefix("error: ").strip()] = None
            else:
                print(line, end="", file=sys.stderr, flush=True)
            if found := _EXITED.search(line):
                code = int(found[1])
    if children.returncode and errors:
        raise {ConfigError.exit_code: ConfigError, TeacherError.exit_code: TeacherError}.get(code, DataError)("; ".join(errors))
    if children.returncode:
        raise DataError(
            f"training in {processes} processes ended with exit code {children.returncode}; the log lines above show the reason"
        )
