"""The re-test of the live champion on today's held-out rows against today's teacher."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from redistill.errors import RedistillError, RegistryUnavailable
from redistill.params import Params
from redistill.promotion.alpha_spending import heldout_identity
from redistill.promotion.cascade import Cascade
from redistill.promotion.evidence import BenchmarkResult
from redistill.promotion.retest import Retest, retest
from redistill.provenance import mlflow_names
from tasks.promotion.evidence import measured_version, teacher_measurement
from tasks.promotion.judge import judge_arm
from tasks.promotion.judgement import Judgement
from tasks.promotion.live_system import promoted_by, system, verify_live
from tasks.registry import alarms, evidence_bundle, hold_counter, look_ledger, transitions
from tasks.registry.artifact import downloaded
from tasks.registry.client import RegistryClient
from tasks.registry.history import History, alarmed
from tasks.registry.runs_and_versions import connect


@dataclass(frozen=True, slots=True)
class ChampionCheck:
    """The result of the re-test in one sentence, and whether the champion may have traffic.

    ``alias_version`` is the version that the alias `champion` named at that time; None if another tool had removed it. ``nights``: for how many nights it has been on hold; 0 if it passed.
    """

    alias_version: str | None
    version: str
    trusted: bool
    sentence: str
    nights: int = 0
    cascade: Cascade | None = None
    """The threshold with which it is live; None if the student answers alone."""
    answered: float = 1.0
    """Share of the rows that people look at that the student answers."""
    weights: Path | None = None
    """The registered weights, downloaded and verified."""


def verify_champion(params: Params, history: History) -> ChampionCheck | None:
    """Check alias, weights and signature of the champion; None if there is no champion. This needs no teacher, so it comes first in a cycle.

    Raises:
        RegistryUnavailable: its files cannot be read now.
    """
    client = connect(params)
    if (recovered := transitions.recover(client, params)) is not None:
        print(recovered)
    # Before the re-test, which would give the traffic back to a version whose alarm the registry did not take.
    for line in alarms.record_missing(params, history):
        print(line)
    outside = transitions.moved_outside(client, params, history.events(client, params), (mlflow_names.CHAMPION,))
    version = transitions.live(client, params).champion
    if outside is not None:
        return ChampionCheck(version, version or "none", False, outside)
    if version is None:
        return None
    try:
        # Downloaded once, so that exactly the verified weights are measured.
        artifact, events = downloaded(client, params, version), history.events(client, params)
        cascade = verify_live(client, params, events, version, artifact)
        if (trained := evidence_bundle.run_of(client, params, version)) != promoted_by(events, version):
            evidence_bundle.verified(client, params, version, run_id=trained, artifact=artifact)
    except RegistryUnavailable:
        raise  # nothing is known about the champion, so what is live stays
    except RedistillError as error:
        return ChampionCheck(version, version, False, f"champion: {error}")
    return ChampionCheck(version, version, True, "its signature is valid", cascade=cascade, weights=artifact.weights)


def retest_champion(params: Params, history: History, verified: ChampionCheck | None = None) -> ChampionCheck | None:
    """Benchmark the champion again and judge it against the teacher; None if there is no champion.

    ``verified`` is the result of ``verify_champion`` earlier in this cycle.
    """
    verified = verified or verify_champion(params, history)
    if verified is None or not verified.trusted:
        return verified
    client, version = connect(params), verified.version
    try:
        measured, teacher = measured_version(client, params, version, weights=verified.weights), teacher_measurement(params)
        champion, teacher_result, answered = measured.deciding(), teacher.deciding(), 1.0
        if verified.cascade is not None:
            champion = system(params, champion, teacher_result, verified.cascade, (measured, teacher)).measured
            shown = system(params, measured.on_shown(), teacher.on_shown(), verified.cascade, (measured, teacher))
            answered = shown.answered / shown.rows
        tested = retest(champion, teacher_result, params.promote)
        if params.promote.sealed:
            tested = sealed_retest(client, params, tested, champion, teacher_result)
    except RegistryUnavailable:
        raise  # nothing is known about the champion, so what is live stays
    except RedistillError as error:
        return ChampionCheck(version, version, False, f"champion: {error}")
    return replace(_checked(client, params, version, tested, history), cascade=verified.cascade, answered=answered)


def _checked(client: RegistryClient, params: Params, version: str, tested: Retest, history: History) -> ChampionCheck:
    if tested.gate.passed:
        hold_counter.clear(client, params)
        # The rows of the re-test say that it is as good as before on them, and the alarm that production asks something else.
        alarm = alarmed(history.events(client, params), version)
        return ChampionCheck(version, version, alarm is None, alarm or tested.gate.sentence)
    nights = hold_counter.count_night(client, params, version)
    result = tested.after(nights, params.promote)
    route = transitions.live(client, params).route
    # A champion that lost its traffic does not get it back by a re-test that ends in a hold.
    trusted = result == "hold" and route.mode != "teacher" and route.model_version == version
    sentence = f"{tested.gate.sentence} ({'' if tested.worse else 'not '}shown to be worse than the teacher; night {nights} on hold)"
    print(f"champion version {version}: {sentence}")
    return ChampionCheck(version, version, trusted, sentence, nights)


def sealed_retest(client: RegistryClient, params: Params, tested: Retest, champion: BenchmarkResult, teacher: BenchmarkResult) -> Retest:
    """The re-test without its numbers. What people learn from it is recorded in the ledger, where it could not be foreseen.

    Raises:
        RegistryError: the ledger is broken or out of reach.
    """
    outcomes = champion[1]
    with transitions.registry_lock():
        rows = heldout_identity((o.prompt_id, o.target) for o in outcomes)
        history = look_ledger.History.of(client, params, rows, [o.prompt_id for o in outcomes])
        result = look_ledger.record_retest(client, params, history, champion[0].model_digest, teacher[0].model_digest, tested.finding)
    n = len(outcomes)
    unclear = f"the {n:,} sealed held-out rows neither show nor rule out a loss of the margin or more"
    sentence = {
        "holds": f"a loss of the margin or more is ruled out on the {n:,} sealed held-out rows",
        "inferior": f"a loss of the margin or more is shown on the {n:,} sealed held-out rows",
        "worse": unclear,
        "hold": unclear,
    }[result]
    gate = replace(
        tested.gate,
        result="pass" if result == "holds" else "fail" if result == "inferior" else "hold",
        sentence=f"champion against teacher: {sentence}",
    )
    return Retest(gate, inferior=result == "inferior", worse=result in ("worse", "inferior"))


def decide_promotion(params: Params, history: History) -> Judgement:
    """Judge this cycle's candidate by every gate, at the level that the held-out set still allows."""
    client = connect(params)
    if not params.promote.sealed:
        print(
            "held-out rows are open: people see the results on them, so promote.alpha_per_heldout does not count what they learn; "
            "a share of the split `monitor` in data.source seals them (docs/gates.md)"
        )
    return judge_arm(client, params, history.events(client, params))
