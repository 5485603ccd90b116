"""Which system a version is live as, or was judged as: alone, or as a cascade with a threshold of its own. A signed judgement says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redistill.errors import RegistryError
from redistill.io.json import read_json
from redistill.params import Params
from redistill.promotion.cascade import Cascade, cascade_from_json
from redistill.promotion.evidence import BenchmarkResult
from redistill.promotion.system import System, system_of
from redistill.promotion.thresholds.saved import calibration_from_json
from redistill.promotion.thresholds.types import CascadeCalibration
from tasks.paths import ARTIFACTS
from tasks.registry import evidence_bundle
from tasks.registry.artifact import Artifact
from tasks.registry.client import RegistryClient
from tasks.registry.history import Event
from tasks.results.measurements import Measurement


def promoted_cascade(judgement: dict[str, Any]) -> Cascade | None:
    """The cascade that a judgement promoted; None where the student alone was promoted. Judgements from before there were cascades have no mode."""
    return judged_cascade(judgement) if judgement["decision"].get("mode") == "cascade" else None


def judged_cascade(judgement: dict[str, Any]) -> Cascade | None:
    """The cascade that was judged, whatever the verdict."""
    tree = judgement.get("cascade")
    return None if tree is None else _read(tree)


def live_cascade(events: Sequence[Event], version: str) -> Cascade | None:
    """The cascade as which a version was made champion the last time; None if it answers alone, or never was champion.

    Raises:
        RegistryError: the history was written by a version of redistill that this one cannot read.
    """
    event = _promotion(events, version)
    return None if event is None or event.cascade is None else _read(event.cascade)


def promoted_by(events: Sequence[Event], version: str) -> str:
    """The MLflow run with the judgement behind that; empty for events from before runs were named."""
    event = _promotion(events, version)
    return "" if event is None else event.judged_run


def verify_live(client: RegistryClient, params: Params, events: Sequence[Event], version: str, artifact: Artifact) -> Cascade | None:
    """The cascade of a champion, after a check that a signed judgement promoted exactly this system. ``artifact`` has the registered files.

    The history says which judgement that was. Only the signature says what it promoted, because anyone who can write to MLflow can write a line of the history.

    Raises:
        RegistryError: the bundle does not verify, promoted nothing, or promoted another system.
    """
    cascade, run_id = live_cascade(events, version), promoted_by(events, version)
    # Events from before runs were named: one of the version's bundles must have promoted it.
    runs = [run_id] if run_id else [evidence_bundle.run_of(client, params, version, newest=newest) for newest in (True, False)]
    promoted = []
    for each in dict.fromkeys(runs):
        evidence = evidence_bundle.verified(client, params, version, run_id=each, artifact=artifact)
        judged = read_json(evidence / "judgement.json")
        if judged["decision"]["verdict"] == "promote":
            promoted.append(promoted_cascade(judged))
    if not promoted:
        raise RegistryError(
            f"version {version} was on hold by its signed judgement, whatever the history says; judge it with `redistill gate {version}`"
        )
    if cascade not in promoted:
        another = "alone, but its signed judgement promoted a cascade" if cascade is None else "with another threshold than the signed one"
        raise RegistryError(f"version {version} is live {another}; promote it again, or roll back")
    return cascade


def _promotion(events: Sequence[Event], version: str) -> Event | None:
    return next((e for e in reversed(events) if e.kind in ("promote", "rollback") and e.champion == version), None)


def _read(tree: dict[str, Any]) -> Cascade:
    try:
        return cascade_from_json(tree)
    except (TypeError, ValueError, KeyError) as error:
        raise RegistryError(f"its cascade cannot be read ({error}); was it written by a newer redistill?") from error


def arm_calibration(arm: str, model_digest: str) -> CascadeCalibration | None:
    """The calibration of this cycle's arm; None if there is none for these weights."""
    file = ARTIFACTS / "calibration" / arm / "calibration.json"
    if not file.is_file():
        return None
    calibration = calibration_from_json(read_json(file))
    return calibration if calibration.model_digest == model_digest else None


def system(
    params: Params, student: BenchmarkResult, teacher: BenchmarkResult, cascade: Cascade, measurements: tuple[Measurement, Measurement]
) -> System:
    """The cascade of two models on the rows that both results are about; ``measurements`` are the student's and the teacher's."""
    pairs = (measurements[0].pairs(), measurements[1].pairs())
    return system_of(student, teacher, cascade, params.data.grammar, params.benchmark, pairs)
