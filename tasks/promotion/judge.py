"""Judges a student: collects the evidence, and asks the ledger for a level and a decision."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from redistill.errors import RedistillError, RegistryUnavailable
from redistill.io.json import read_json
from redistill.params import Params
from redistill.promotion.cascade import Cascade
from redistill.promotion.evidence import Evidence
from redistill.promotion.system import System
from tasks.paths import ARTIFACTS
from tasks.promotion.evidence import Gathered, audit_of_arm, audit_on_record, gathered, measured_version, measurement_of
from tasks.promotion.judgement import Judgement
from tasks.promotion.live_system import arm_calibration, judged_cascade, live_cascade, system
from tasks.promotion.question import Question
from tasks.registry import transitions
from tasks.registry.artifact import weights_of
from tasks.registry.client import RegistryClient
from tasks.registry.evidence_bundle import verified
from tasks.registry.history import Event
from tasks.results.measurements import Measurement


def judge(client: RegistryClient, params: Params, evidence: Evidence, cascade: System | None = None) -> Judgement:
    """Judge a student, and the cascade that it is part of if there is one. Decide at the level that this held-out set still allows. The same question again is not a new look and gets the same level.

    Raises:
        DataError: evidence that cannot be compared.
        RegistryError: the ledger is broken or out of reach; then nothing was decided.
    """
    with transitions.registry_lock():
        return Question(client, params, evidence, cascade).judged()


def judge_arm(client: RegistryClient, params: Params, events: Sequence[Event]) -> Judgement:
    """Judge the candidate that this cycle has trained, benchmarked and calibrated. ``events``: the history up to now."""
    arm = params.promote.arm
    measured = measurement_of(params, arm)
    digest = measured.on_shown()[0].model_digest
    collected = gathered(client, params, events, measured, audit_of_arm(params, arm), lambda: ARTIFACTS / "students" / arm)
    calibration = arm_calibration(arm, digest)
    return dataclasses.replace(_judged(client, params, collected, None if calibration is None else calibration.cascade), arm=arm)


def judge_version(client: RegistryClient, params: Params, version: str) -> Judgement:
    """Judge any registered version, from this project or not. What was not measured before is measured now."""
    measured, events = measured_version(client, params, version), transitions.history(client, params)
    arm, digest = params.promote.arm, measured.on_shown()[0].model_digest
    here = measurement_of(params, arm).shown / "report.json"
    from_this_cycle = here.is_file() and read_json(here)["model_digest"] == digest
    audited = (
        audit_of_arm(params, arm) if from_this_cycle else audit_on_record(client, params, version, measured.deciding()[0].heldout_digest)
    )
    collected = gathered(client, params, events, measured, audited, lambda: weights_of(client, params, version))
    if transitions.live(client, params).champion == version:
        cascade = live_cascade(events, version)
    else:
        calibration = arm_calibration(arm, digest)
        cascade = _cascade_on_record(client, params, version) if calibration is None else calibration.cascade
    return _judged(client, params, collected, cascade)


def _judged(client: RegistryClient, params: Params, collected: Gathered, cascade: Cascade | None) -> Judgement:
    evidence = collected.evidence(params)
    return judge(client, params, evidence, _cascade(params, evidence, cascade, (collected.student, collected.teacher)))


def _cascade(params: Params, evidence: Evidence, cascade: Cascade | None, measurements: tuple[Measurement, Measurement]) -> System | None:
    """The cascade on the rows that decide, and on those that people look at; None for a student without one, or whose responses have no confidence."""
    if cascade is None or not any(outcome.confidences for outcome in evidence.student[1]):
        return None
    deciding = system(params, evidence.student, evidence.teacher, cascade, measurements)
    if evidence.on_monitor is None:
        return deciding
    return dataclasses.replace(
        deciding, on_monitor=system(params, evidence.on_monitor.student, evidence.on_monitor.teacher, cascade, measurements)
    )


def _cascade_on_record(client: RegistryClient, params: Params, version: str) -> Cascade | None:
    """The cascade in a version's newest bundle, if that verifies."""
    try:
        return judged_cascade(read_json(verified(client, params, version, newest=True) / "judgement.json"))
    except RegistryUnavailable:
        raise
    except RedistillError:
        return None
