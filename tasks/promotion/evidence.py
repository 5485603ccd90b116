"""The evidence about a student: benchmarks of all models that it is compared with, its timing, and the audit of the rows that trained it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from redistill.data.types import Prompt
from redistill.distillation.types import TrainingRow
from redistill.errors import RedistillError, RegistryError
from redistill.evaluation.summary import report_from_json
from redistill.evaluation.types import Outcome
from redistill.io.json import read_json
from redistill.io.parquet import read_records
from redistill.params import Params
from redistill.promotion.evidence import BenchmarkResult, Evidence
from redistill.promotion.training_audit import audit
from redistill.promotion.types import Audit
from redistill.provenance import mlflow_names
from redistill.runtime.environment import child_environment
from tasks.paths import ARTIFACTS, STATE
from tasks.promotion.live_system import live_cascade, system
from tasks.promotion.version_timing import timing_of
from tasks.registry import transitions
from tasks.registry.client import RegistryClient
from tasks.registry.evidence_bundle import verified, weights_of
from tasks.registry.history import Event
from tasks.stages.benchmark import HELDOUT, memo_directory

_NAME_ANOTHER = {mlflow_names.CHAMPION: "rollback --to VERSION", mlflow_names.REFERENCE: "reference VERSION"}
_ROWS = {"gold": ("train",), "gold_and_teacher": ("train", "pool")}


def gathered(
    client: RegistryClient,
    params: Params,
    events: Sequence[Event],
    student: BenchmarkResult,
    audited: Audit | None,
    weights: Callable[[], Path],
) -> Evidence:
    """Everything that the gates use about a student alone. Champion and reference are the systems that they are live as.

    Args:
        events: the history up to now.
        student: its benchmark on today's held-out rows.
        audited: the audit of the rows that trained it; None if they are unknown.
        weights: loads its checkpoint, if its architecture must be timed now.
    """
    now = transitions.live(client, params)
    teacher_folder = ARTIFACTS / "benchmark" / "teacher"
    teacher = load_benchmark(teacher_folder)
    others: dict[str, BenchmarkResult] = {}
    unmeasured: dict[str, str] = {}
    timing = None
    if any(gate.name == "faster" for gate in params.promote.gates):
        try:
            timing = timing_of(student[0].architecture, params, weights)
        except RedistillError as error:
            unmeasured["timing"] = str(error)
    for role in (mlflow_names.CHAMPION, mlflow_names.REFERENCE):
        version = now.aliases[role]
        if version is None:
            continue
        try:
            measured = measured_version(client, params, version)
            others[role] = load_benchmark(measured)
            # What a challenger must match is the system that is live.
            if (cascade := live_cascade(events, version)) is not None:
                others[role] = system(params, others[role], teacher, cascade, (measured, teacher_folder)).measured
        except RedistillError as error:
            unmeasured[role] = f"{error}; choose another version with `redistill {_NAME_ANOTHER[role]}`"
            continue
        if others[role][0].template_digest != student[0].template_digest:
            del others[role]
            unmeasured[role] = (
                f"version {version} has another prompt template; choose another version with `redistill {_NAME_ANOTHER[role]}`"
            )
    linear = ARTIFACTS / "benchmark" / "linear"
    return Evidence(
        student=student,
        teacher=teacher,
        champion=others.get(mlflow_names.CHAMPION),
        reference=others.get(mlflow_names.REFERENCE),
        linear=load_benchmark(linear) if linear.is_dir() else None,
        audit=audited,
        grammar=params.data.grammar,
        unmeasured=unmeasured,
        timing=timing,
    )


def measured_version(client: RegistryClient, params: Params, version: str, *, weights: Path | None = None) -> Path:
    """The folder of a version's benchmark on today's held-out set. It is measured now if there is no stored result.

    A stored result is found by the registered digest, without downloading weights. ``weights`` are the registered ones if they are on this machine already.

    Raises:
        RegistryError: its weights cannot be loaded, are not the registered ones, or cannot be benchmarked.
    """
    digest = client.get_model_version(params.data.name, version).tags.get(mlflow_names.TAG_MODEL_DIGEST)
    try:
        if digest and (stored := memo_directory(digest, params.data, params.benchmark) / "report.json").is_file():
            return stored.parent
        return _measured_now(params, version, weights or weights_of(client, params, version))
    except RedistillError as error:
        raise RegistryError(f"version {version} of {params.data.name} cannot be judged: {error}") from None


def _measured_now(params: Params, version: str, weights: Path) -> Path:
    """The benchmark of a checkpoint, in a process of its own."""
    from redistill.models import checkpoints

    memo = memo_directory(checkpoints.model_digest(weights), params.data, params.benchmark)
    if not (memo / "report.json").is_file():
        out = STATE / "evaluations" / f"version-{version}"
        command = [
            sys.executable,
            "-m",
            "tasks.running.stage_command",
            "benchmark",
            "--checkpoint",
            str(weights),
            "--out",
            str(out),
            "--who",
            f"version {version}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), check=False)
        if done.returncode or not (memo / "report.json").is_file():
            raise RegistryError(f"its benchmark failed: {' / '.join(done.stderr.strip().splitlines()[-3:])}")
    return memo


def load_benchmark(folder: Path) -> BenchmarkResult:
    """A benchmark's report and outcomes, as records."""
    return report_from_json(read_json(folder / "report.json")), read_records(folder / "outcomes.parquet", Outcome)


def audit_of_arm(params: Params, arm: str) -> Audit:
    splits = _ROWS[params.finetune.arms[arm].rows]
    prompts = {p.id: p for split in splits for p in read_records(ARTIFACTS / "prompts" / f"{split}.parquet", Prompt)}
    rows = [(p, p.label or "") for p in prompts.values() if p.label is not None]
    if "pool" in splits:
        kept: Sequence[TrainingRow] = read_records(ARTIFACTS / "validated" / "kept.parquet", TrainingRow)
        rows += [(prompts[row.prompt_id], row.completion) for row in kept]
    return audit(rows, read_records(HELDOUT, Prompt), params.intake.near_duplicate, params.validate.heldout_quote_words)


def audit_on_record(client: RegistryClient, params: Params, version: str, heldout: str) -> Audit | None:
    """The audit in a version's own bundle, if the bundle verifies and is about the same held-out rows."""
    try:
        judgement = read_json(verified(client, params, version) / "judgement.json")
    except RedistillError:
        return None
    return Audit(**judgement["audit"]) if judgement["audit"] and judgement["heldout"] == heldout else None
