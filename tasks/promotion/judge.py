"""Judges a student: collects the evidence, gets a level from the ledger, decides, and records the look before the decision is published."""

from __future__ import annotations

import dataclasses
import datetime as dt
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redistill.data.types import Prompt
from redistill.distillation.types import TrainingRow
from redistill.errors import RedistillError, RegistryError
from redistill.evaluation.summary import report_from_json
from redistill.evaluation.timing import timing_to_json
from redistill.evaluation.types import Outcome
from redistill.io.json import read_json
from redistill.io.parquet import read_records
from redistill.params import Params
from redistill.promotion.alpha_spending import earlier_look, entry_digest, next_look, spendable
from redistill.promotion.decide import decide, shown
from redistill.promotion.evidence import BenchmarkResult, Evidence
from redistill.promotion.hold_plan import patch
from redistill.promotion.training_audit import audit
from redistill.promotion.types import Audit, Gate, Look, PromotionDecision
from redistill.provenance import mlflow_names
from redistill.runtime.environment import child_environment
from tasks.paths import ARTIFACTS, STATE
from tasks.promotion.version_timing import timing_of
from tasks.registry import look_ledger, transitions
from tasks.registry.client import RegistryClient
from tasks.registry.evidence_bundle import verified, weights_of
from tasks.stages.benchmark import HELDOUT, memo_directory

_NAME_ANOTHER = {mlflow_names.CHAMPION: "rollback --to VERSION", mlflow_names.REFERENCE: "reference VERSION"}
_ROWS = {"gold": ("train",), "gold_and_teacher": ("train", "pool")}


@dataclass(frozen=True, slots=True)
class Judgement:
    """A decision and its evidence."""

    decision: PromotionDecision
    evidence: Evidence
    question: str
    looks: tuple[Look, ...]
    repeated: bool


def judge(client: RegistryClient, params: Params, evidence: Evidence) -> Judgement:
    """Decide at the level that this held-out set still allows. The same question again is not a new look and gets the same level.

    Raises:
        DataError: evidence that cannot be compared.
        RegistryError: the ledger is broken or out of reach; then nothing was decided.
    """
    with transitions.registry_lock():
        return _judge(client, params, evidence)


def _judge(client: RegistryClient, params: Params, evidence: Evidence) -> Judgement:
    promote = params.promote
    heldout = evidence.rows
    looks = look_ledger.read(client, params, heldout)
    key = evidence.question(promote)
    if evidence.is_champion:
        decision = decide(evidence, promote, promote.alpha_per_heldout)
        return Judgement(decision, evidence, key, tuple(looks), True)
    if (old := earlier_look(looks, key)) is not None:
        return Judgement(decide(evidence, promote, old.level, _looks_gate(params, old, len(looks))), evidence, key, tuple(looks), True)
    _, level = spendable(looks, promote)
    if level == 0.0:
        return Judgement(decide(evidence, promote, 0.0, _used_up(params, looks)), evidence, key, tuple(looks), False)
    new = next_look(
        looks,
        promote,
        heldout=heldout,
        key=key,
        candidate=evidence.student[0].model_digest,
        shown=False,
        verdict="hold",
        at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        by=transitions.current_user(),
    )
    decision = decide(evidence, promote, level, _looks_gate(params, new, len(looks) + 1))
    new = dataclasses.replace(new, shown=shown(decision), verdict=decision.verdict)
    look_ledger.append(client, params, new)
    return Judgement(decision, evidence, key, (*looks, new), False)


def evidence_of_arm(client: RegistryClient, params: Params) -> Evidence:
    """The evidence about the candidate that this cycle has trained and benchmarked."""
    arm = params.promote.arm
    return _evidence(
        client, params, load_benchmark(ARTIFACTS / "benchmark" / arm), _audit(params, arm), lambda: ARTIFACTS / "students" / arm
    )


def evidence_of_version(client: RegistryClient, params: Params, version: str) -> Evidence:
    """The evidence about any registered version, from this project or not. What was not measured before is measured now."""
    student = load_benchmark(measured_version(client, params, version))
    here = ARTIFACTS / "benchmark" / params.promote.arm / "report.json"
    from_this_cycle = here.is_file() and read_json(here)["model_digest"] == student[0].model_digest
    audited = (
        _audit(params, params.promote.arm) if from_this_cycle else _audit_on_record(client, params, version, student[0].heldout_digest)
    )
    return _evidence(client, params, student, audited, lambda: weights_of(client, params, version))


def _evidence(
    client: RegistryClient, params: Params, student: BenchmarkResult, audited: Audit | None, weights: Callable[[], Path]
) -> Evidence:
    now = transitions.live(client, params)
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
            others[role] = load_benchmark(measured_version(client, params, version))
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
        teacher=load_benchmark(ARTIFACTS / "benchmark" / "teacher"),
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


def summary(judgement: Judgement) -> dict[str, Any]:
    """The part of a judgement that bundle and report store."""
    evidence = judgement.evidence
    return {
        "models": {
            role: measured[0].model_digest
            for role in ("student", "teacher", "champion", "reference")
            if (measured := getattr(evidence, role)) is not None
        },
        "decision": dataclasses.asdict(judgement.decision),
        "question": judgement.question,
        "is_champion": evidence.is_champion,
        "heldout": evidence.student[0].heldout_digest,
        "judged_by": transitions.current_user(),
        "audit": evidence.audit and dataclasses.asdict(evidence.audit),
        "timing": evidence.timing and timing_to_json(evidence.timing),
        "looks": [{**dataclasses.asdict(look), "digest": entry_digest(look)} for look in judgement.looks],
        "repeated": judgement.repeated,
        "patch": patch(evidence, judgement.decision, evidence.audit.rows if evidence.audit else 0)
        if judgement.decision.verdict == "hold"
        else None,
    }


def _audit(params: Params, arm: str) -> Audit:
    splits = _ROWS[params.finetune.arms[arm].rows]
    prompts = {p.id: p for split in splits for p in read_records(ARTIFACTS / "prompts" / f"{split}.parquet", Prompt)}
    rows = [(p, p.label or "") for p in prompts.values() if p.label is not None]
    if "pool" in splits:
        kept: Sequence[TrainingRow] = read_records(ARTIFACTS / "validated" / "kept.parquet", TrainingRow)
        rows += [(prompts[row.prompt_id], row.completion) for row in kept]
    return audit(rows, read_records(HELDOUT, Prompt), params.intake.near_duplicate, params.validate.heldout_quote_words)


def _audit_on_record(client: RegistryClient, params: Params, version: str, heldout: str) -> Audit | None:
    """The audit in a version's own bundle, if the bundle verifies and is about the same held-out rows."""
    try:
        judgement = read_json(verified(client, params, version) / "judgement.json")
    except RedistillError:
        return None
    return Audit(**judgement["audit"]) if judgement["audit"] and judgement["heldout"] == heldout else None


def _looks_gate(params: Params, look: Look, look_count: int) -> Gate:
    planned = params.promote.looks_per_heldout
    sentence = (
        f"look {look.number} of {planned} at this held-out set, at level {look.level:.2g} of {params.promote.alpha_per_heldout:g} over all"
        f"{'' if look_count == look.number else f' (the same question as before; {look_count} looks so far)'}"
    )
    return Gate("looks", "pass", look.number, planned, "looks", sentence)


def _used_up(params: Params, looks: Sequence[Look]) -> Gate:
    sentence = (
        f"this held-out set is used up: after {len(looks)} looks, all of promote.alpha_per_heldout={params.promote.alpha_per_heldout:g} is spent; "
        "replace the held-out set: label new prompts and use them instead"
    )
    return Gate("looks", "hold", len(looks), params.promote.looks_per_heldout, "looks", sentence)
