"""Stage ``finetune@ARM``: one student, from the same base, tokens and seed as every other arm."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redistill import checkpoints
from redistill.artifacts import read_records, replacing_directory, tree_digest, write_json
from redistill.config import ArmParams, DataParams, FinetuneCommonParams, MethodParams
from redistill.errors import ConfigError, DataError, TeacherError
from redistill.generation import end_ids, make_neutral
from redistill.precision import Precision, dtype_name, resolved, training_device
from redistill.progress import Progress
from redistill.prompting import tokenizer_digest, vocabulary_size
from redistill.records import Prompt, TrainingRow
from redistill.rows import gold_rows
from redistill.soft_target_files import SoftTargetFiles
from tasks.edge import ARTIFACTS, run, usable_cores, use_threads, work_directory
from tasks.locked import read_lock, refuse_unnamed

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
    if _first():
        with replacing_directory(ARTIFACTS / "students" / arm) as folder:
            checkpoints.save_checkpoint(model, tokenizer, folder)
        shutil.copy(work / "metrics.jsonl", ARTIFACTS / "students" / f"{arm}.metrics.jsonl")
        write_json(ARTIFACTS / "students" / f"{arm}.json", {"arm": arm, **facts})
        shutil.rmtree(work, ignore_errors=True)


def train_arm(
    arm: str,
    base: Path,
    work: Path,
    data: DataParams,
    method: MethodParams,
    common: FinetuneCommonParams,
    arm_params: ArmParams,
    watch: Callable[[Any, Any, int, int], None] | None = None,
) -> tuple[Any, Any, dict[str, Any]]:
    """Train one arm from ``base``: model, tokenizer, and what is told of it. ``watch`` sees the model after every step."""
    from redistill.examples import Examples
    from redistill.methods.choose import choose
    from redistill.training import Recipe, steps_for, train

    use_threads(common.threads)
    tokenizer = checkpoints.load_tokenizer(base)
    learns_by = arm_params.learns_by(method)
    rows = rows_of(data, arm_params, tokenizer)
    if arm_params.alpha > 0:
        refuse_unnamed(read_lock(), rows)
    soft = _soft_targets(rows, arm_params.alpha, tokenizer) if learns_by.name == "logit" else {}
    examples = Examples(
        rows, tokenizer, soft, arm_params.alpha, common.supervise, arm_params.temperature, learns_by.in_memory, arm_params.prompt_weight
    )
    steps = steps_for(common.tokens, examples, common.batch_size * common.gradient_accumulation)
    recipe = Recipe(
        steps=steps,
        batch_size=common.batch_size,
        gradient_accumulation=common.gradient_accumulation,
        learning_rate=common.learning_rate,
        warmup_share=common.warmup_share,
        weight_decay=common.weight_decay,
        seed=common.seed,
        save_every_steps=common.save_every_steps,
        lora=common.lora if common.weights == "lora" else None,
        freeze_embeddings=common.freeze_embeddings,
        precision=common.precision,
    )
    # Nothing but the method holds the teacher, so it can let go of it.
    way = choose(
        learns_by,
        arm_params.temperature,
        tokenizer,
        vocabulary_size(tokenizer),
        _teacher(rows, learns_by, tokenizer, common.precision) if learns_by.in_memory else None,
        common.seed,
    )
    passes = steps * common.batch_size * common.gradient_accumulation / max(1, len(examples))
    asked = Progress(f"teacher-states@{arm}", sum(r.origin == "teacher" for r in rows), "rows") if _first() else None
    prepared = way.prepare(examples, passes / common.processes, asked)
    progress = Progress(f"finetune@{arm}", steps, "steps")
    student = checkpoints.load_model(base)
    # A student stops where its rows do: a teacher of its family may end with a token that its own base does not list.
    make_neutral(student, [*dict.fromkeys([*end_ids(student), *(r.completion_ids[-1] for r in rows if r.completion_ids)])])
    model = train(student, tokenizer, prepared, recipe, work, progress, way, watch)
    facts = {
        "method": learns_by.name,
        "precision": resolved(common.precision, training_device()),
        "rows": len(rows),
        "gold_rows": sum(r.origin == "gold" for r in rows),
        "with_soft_targets": len(soft),
        "tokens_a_row": round(float(examples.lengths.mean()), 2) if rows else 0.0,
        "targets_a_row": round(float(examples.targets.mean()), 2) if rows else 0.0,
        "steps": steps,
    }
    return model, tokenizer, facts


def _first() -> bool:
    """Whether this process is the one of several that writes and reports."""
    return os.environ.get("RANK", "0") == "0"


def rows_of(data: DataParams, arm: ArmParams, tokenizer: Any) -> list[TrainingRow]:
    """Gold rows, and the kept ones where the arm wants them."""
    rows = gold_rows(read_records(ARTIFACTS / "prompts" / "train.parquet", Prompt), data, tokenizer)
    return rows if arm.rows == "gold" else rows + read_records(ARTIFACTS / "validated" / "kept.parquet", TrainingRow)


def _soft_targets(rows: list[TrainingRow], alpha: float, tokenizer: Any) -> SoftTargetFiles:
    soft = SoftTargetFiles(ARTIFACTS / "soft_targets" / "targets", tokenizer_digest(tokenizer))
    kept = [r for r in rows if r.origin == "teacher"]
    missing = sum((r.prompt_id, r.sample_index) not in soft for r in kept)
    if missing:
        raise DataError(f"{missing} of {len(kept)} kept rows have no soft targets, but alpha={alpha:g}; run score again, or set alpha to 0")
    return soft


def _teacher(rows: list[TrainingRow], method: MethodParams, tokenizer: Any, precision: Precision) -> Any:
    """The locked teacher's weights, once it is sure that their probabilities may be compared with this student's on these rows."""
    from redistill.heads import refuse_odd_heads

    lock = read_lock()
    if lock.path is None:
        raise ConfigError(
            f"method {method.name} needs the teacher's weights in memory, but the locked teacher is an endpoint; use logit or sequence"
        )
    if tokenizer_digest(lock.tokenizer) != tokenizer_digest(tokenizer):
        raise DataError(
            f"the student's tokenizer is not the teacher's, so their probabilities name other tokens and method {method.name} cannot compare them; "
            "use a student with the teacher's tokenizer, or method sequence"
        )
    found = checkpoints.fingerprint(lock.path, "").digest
    strange = sorted({r.teacher or "" for r in rows if r.origin == "teacher"} - {found})
    if strange:
        raise DataError(
            f"{lock.path} holds teacher {found[:12]}, but {strange[0][:12]} wrote kept rows; restore it with `dvc checkout`, or lock and generate again"
        )
    teacher = checkpoints.load_model(lock.path, dtype_name(precision, training_device()))
    refuse_odd_heads(teacher)
    return teacher


def _digests(method: MethodParams, arm: ArmParams) -> list[str]:
    paths = ["base", "prompts/train.parquet"]
    if arm.rows != "gold":
        paths.append("validated/kept.parquet")
    if method.name == "logit":
        paths.append("soft_targets/targets")
    if method.in_memory:
        paths.append("teacher")
    return [tree_digest(ARTIFACTS / p) for p in paths]


def _in_processes(arm: str, processes: int, threads: int) -> None:
    """The same stage in several processes that share each batch; torchrun's rendezvous stays on this machine."""
    warm = {"REDISTILL_WARM"}
    environment = {**{k: v for k, v in os.environ.items() if k not in warm}, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command += [f"--nproc-per-node={processes}", "-m", "tasks.finetune", arm]
    # torchrun's own code is always 1, and every process says the same.
    code, said = 1, dict[str, None]()
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as children:
        assert children.stderr is not None
        for line in children.stderr:
            if line.startswith("error: "):
                said[line.removeprefix("error: ").strip()] = None
            else:
                print(line, end="", file=sys.stderr, flush=True)
            if found := _EXITED.search(line):
                code = int(found[1])
    if children.returncode and said:
        raise {ConfigError.exit_code: ConfigError, TeacherError.exit_code: TeacherError}.get(code, DataError)("; ".join(said))
    if children.returncode:
        raise DataError(f"training in {processes} processes ended with {children.returncode}; its lines above say why")


if __name__ == "__main__":
    run(finetune, "arm")
