"""The evidence about a student: benchmarks of all models that it is compared with, its timing, and the audit of the rows that trained it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from redistill.data.types import Prompt
from redistill.distillation.types import TrainingRow
from redistill.errors import DataError, RedistillError, RegistryError, RegistryUnavailable
from redistill.evaluation.timing import Timing
from redistill.io.digests import file_digest
from redistill.io.json import read_json
from redistill.io.parquet import read_records
from redistill.params import Params
from redistill.promotion.cascade import Cascade
from redistill.promotion.evidence import BenchmarkResult, Evidence
from redistill.promotion.training_audit import audit
from redistill.promotion.types import Audit
from redistill.provenance import mlflow_names
from redistill.runtime.environment import child_environment
from tasks.paths import ARTIFACTS, STATE
from tasks.promotion.live_system import live_cascade, system
from tasks.promotion.version_timing import timing_of
from tasks.registry import transitions
from tasks.registry.artifact import weights_of
from tasks.registry.client import RegistryClient
from tasks.registry.evidence_bundle import verified
from tasks.registry.history import Event
from tasks.results.measurements import Measurement, read_open
from tasks.results.memos import remembered
from tasks.results.rows import HELDOUT, Rows, sealed_rows, shown_rows

_NAME_ANOTHER = {mlflow_names.CHAMPION: "rollback --to VERSION", mlflow_names.REFERENCE: "reference VERSION"}
_ROWS = {"gold": ("train",), "gold_and_teacher": ("train", "pool")}


@dataclass(frozen=True, slots=True)
class Gathered:
    """Everything that gates may use about a candidate: measurements of all models, and what could not be measured."""

    student: Measurement
    teacher: Measurement
    others: dict[str, Measurement]
    """Champion and reference."""
    cascades: dict[str, Cascade]
    """Of champion and reference, where they are live as one: what a challenger must match is the system that is live."""
    unmeasured: dict[str, str]
    timing: Timing | None
    audit: Audit | None

    def evidence(self, params: Params) -> Evidence:
        """The evidence about the student alone. Sealed results decide where there are any, and the evidence on the shown rows lies beside them.

        Raises:
            DataError: results are about other rows than those that decide in this project now.
        """
        deciding = self._on(params, Measurement.deciding)
        if deciding.teacher[0].heldout_digest != file_digest(HELDOUT):
            raise DataError("the teacher's results are not about today's held-out rows; run a cycle, then judge again")
        if self.student.sealed is None:
            return deciding
        return replace(deciding, on_monitor=self._on(params, Measurement.on_shown, split="monitor"))

    def _on(self, params: Params, results: Callable[[Measurement], BenchmarkResult], split: str = "held-out") -> Evidence:
        student, teacher = results(self.student), results(self.teacher)
        others: dict[str, BenchmarkResult] = {}
        unmeasured = dict(self.unmeasured)
        for role, measurement in self.others.items():
            measured = results(measurement)
            if (cascade := self.cascades.get(role)) is not None:
                try:
                    measured = system(params, measured, teacher, cascade, (measurement, self.teacher)).measured
                except RedistillError as error:
                    unmeasured[role] = f"{error}; choose another version with `redistill {_NAME_ANOTHER[role]}`"
                    continue
            if measured[0].template_digest != student[0].template_digest:
                unmeasured[role] = f"it has another prompt template; choose another version with `redistill {_NAME_ANOTHER[role]}`"
            else:
                others[role] = measured
        linear = ARTIFACTS / "benchmark" / "linear"
        # One that an earlier task left there says nothing about this one.
        has_linear = linear.is_dir() and params.data.record_grammar is not None
        return Evidence(
            student=student,
            teacher=teacher,
            champion=others.get(mlflow_names.CHAMPION),
            reference=others.get(mlflow_names.REFERENCE),
            # The linear model is only advice, so it is measured on the rows that people look at.
            linear=read_open(linear) if has_linear and (split == "monitor" or self.student.sealed is None) else None,
            audit=self.audit,
            grammar=params.data.grammar,
            unmeasured=unmeasured,
            timing=self.timing,
            split=split,
        )


def gathered(
    client: RegistryClient,
    params: Params,
    events: Sequence[Event],
    student: Measurement,
    audited: Audit | None,
    weights: Callable[[], Path],
) -> Gathered:
    """Collect what the gates use about a student.

    Args:
        events: the history up to now.
        student: its results on today's rows.
        audited: the audit of the rows that trained it; None if they are unknown.
        weights: loads its checkpoint, if its architecture must be timed now.
    """
    now = transitions.live(client, params)
    others: dict[str, Measurement] = {}
    cascades: dict[str, Cascade] = {}
    unmeasured: dict[str, str] = {}
    timing = None
    if any(gate.name == "faster" for gate in params.promote.gates):
        try:
            timing = timing_of(student.on_shown()[0].architecture, params, weights)
        except RegistryUnavailable:
            raise  # a decision without this would use up a look, although only a server was away
        except RedistillError as error:
            unmeasured["timing"] = str(error)
    for role in (mlflow_names.CHAMPION, mlflow_names.REFERENCE):
        version = now.aliases[role]
        if version is None:
            continue
        try:
            others[role] = measured_version(client, params, version)
            if (cascade := live_cascade(events, version)) is not None:
                cascades[role] = cascade
        except RegistryUnavailable:
            raise
        except RedistillError as error:
            unmeasured[role] = f"{error}; choose another version with `redistill {_NAME_ANOTHER[role]}`"
    return Gathered(student, teacher_measurement(params), others, cascades, unmeasured, timing, audited)


def measurement_of(params: Params, who: str) -> Measurement:
    """Where the stages put the results of the teacher or of an arm."""
    return Measurement(shown_rows(params.data).results / who, sealed_rows().results / who if params.promote.sealed else None)


def teacher_measurement(params: Params) -> Measurement:
    return measurement_of(params, "teacher")


def measured_version(client: RegistryClient, params: Params, version: str, *, weights: Path | None = None) -> Measurement:
    """The results of a version on today's rows. It is measured now if they are not stored.

    Stored results are found by the registered digest, without downloading weights. ``weights`` are the registered ones if they are on this machine already.

    Raises:
        RegistryError: its weights cannot be loaded, are not the registered ones, or cannot be benchmarked.
    """
    digest = client.get_model_version(params.data.name, version).tags.get(mlflow_names.TAG_MODEL_DIGEST)
    every = [shown_rows(params.data), *([sealed_rows()] if params.promote.sealed else [])]
    try:
        memos = [rows.memo(digest, params.data, params.benchmark) for rows in every] if digest else []
        if not memos or not all(remembered(memo) for memo in memos):
            checkpoint = weights or weights_of(client, params, version)
            memos = [_measured_now(params, version, rows, checkpoint) for rows in every]
    except RedistillError as error:
        kind = RegistryUnavailable if isinstance(error, RegistryUnavailable) else RegistryError
        raise kind(f"version {version} of {params.data.name} cannot be judged: {error}") from None
    return Measurement(*memos)


def _measured_now(params: Params, version: str, rows: Rows, weights: Path) -> Path:
    """The results of a checkpoint, measured in a process of its own."""
    from redistill.models import checkpoints

    memo = rows.memo(checkpoints.model_digest(weights), params.data, params.benchmark)
    if not remembered(memo):
        out = STATE / "evaluations" / f"{rows.stage}-version-{version}"
        command = [
            sys.executable,
            "-m",
            "tasks.running.stage_command",
            rows.stage,
            "--checkpoint",
            str(weights),
            "--out",
            str(out),
            "--who",
            f"version {version}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), check=False)
        if done.returncode or not remembered(memo):
            raise RegistryError(f"its benchmark failed: {' / '.join(done.stderr.strip().splitlines()[-3:])}")
    return memo


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
    except RegistryUnavailable:
        raise
    except RedistillError:
        return None
    return Audit(**judgement["audit"]) if judgement["audit"] and judgement["heldout"] == heldout else None
