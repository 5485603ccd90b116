"""Which system a version is live as, or was judged as: alone, or as a cascade with a threshold of its own. A signed judgement says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redistill.evaluation.types import PairOutcome
from redistill.io.json import read_json
from redistill.io.parquet import read_records
from redistill.params import Params
from redistill.promotion.cascade import Cascade, cascade_from_json
from redistill.promotion.evidence import BenchmarkResult
from redistill.promotion.system import System, system_of
from redistill.promotion.thresholds.saved import calibration_from_json
from redistill.promotion.thresholds.types import CascadeCalibration
from tasks.paths import ARTIFACTS
from tasks.registry import evidence_bundle
from tasks.registry.client import RegistryClient
from tasks.registry.history import Event


def promoted_cascade(judgement: dict[str, Any]) -> Cascade | None:
    """The cascade that a judgement promoted; None where the student alone was promoted. Judgements of before there were cascades have no mode."""
    return cascade_of(judgement) if judgement["decision"].get("mode") == "cascade" else None


def cascade_of(judgement: dict[str, Any]) -> Cascade | None:
    """The cascade that was judged, whatever the verdict."""
    tree = judgement.get("cascade")
    return None if tree is None else cascade_from_json(tree)


def promoted_by(events: Sequence[Event], version: str) -> str | None:
    """The MLflow run with the judgement that made a version champion the last time; None for a version that never was, or that was before runs were named."""
    runs = [event.judged_run for event in events if event.kind in ("promote", "rollback") and event.champion == version]
    return (runs[-1] if runs else None) or None


def live_cascade(client: RegistryClient, params: Params, events: Sequence[Event], version: str) -> Cascade | None:
    """The cascade as which a version is or was champion, from the verified bundle of that promotion.

    Raises:
        RegistryError: the bundle does not verify.
    """
    run_id = promoted_by(events, version)
    if run_id is None:
        return None
    return promoted_cascade(read_json(evidence_bundle.verified(client, params, version, run_id=run_id) / "judgement.json"))


def arm_calibration(arm: str, model_digest: str) -> CascadeCalibration | None:
    """The calibration of this cycle's arm; None if there is none for these weights."""
    file = ARTIFACTS / "calibration" / arm / "calibration.json"
    if not file.is_file():
        return None
    calibration = calibration_from_json(read_json(file))
    return calibration if calibration.model_digest == model_digest else None


def system(params: Params, student: BenchmarkResult, teacher: BenchmarkResult, cascade: Cascade, folders: tuple[Path, Path]) -> System:
    """The cascade of two models on the held-out rows; ``folders`` are those of the student's and the teacher's benchmark."""
    one, two = (read_records(f / "pairs.parquet", PairOutcome) if (f / "pairs.parquet").is_file() else [] for f in folders)
    return system_of(student, teacher, cascade, params.data.grammar, params.benchmark, (one, two))
