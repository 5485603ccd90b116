"""Re-test what is live: today's champion on today's held-out rows against today's teacher."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import task
from prefect.cache_policies import NO_CACHE

from redistill import lineage
from redistill.config import Params
from redistill.errors import RedistillError
from redistill.promotion import holds
from tasks import bundle, moves
from tasks.edge import ARTIFACTS
from tasks.judging import Judgement, evaluated, evidence_of_arm, judge, measured_version
from tasks.registry import connect


@dataclass(frozen=True, slots=True)
class ChampionCheck:
    """What the re-test found, in one sentence. ``found`` is the alias as it stood then; None where it was taken away from outside."""

    found: str | None
    version: str
    holds: bool
    sentence: str


@task(task_run_name="retest-champion", cache_policy=NO_CACHE)
def retest_champion(params: Params) -> ChampionCheck | None:
    """Benchmark the champion again and judge it against the teacher; None when nothing is live."""
    client = connect(params)
    if (mended := moves.mend(client, params)) is not None:
        print(mended)
    outside = moves.moved_outside(client, params, (lineage.CHAMPION,))
    version = moves.live(client, params).champion
    if outside is not None:
        return ChampionCheck(version, version or "none", False, outside)
    if version is None:
        return None
    try:
        bundle.verified(client, params, version)
        measured = measured_version(client, params, version)
        gate = holds(evaluated(measured), evaluated(ARTIFACTS / "benchmark" / "teacher"), params.promote)
    except RedistillError as error:
        return ChampionCheck(version, version, False, f"champion: {error}")
    return ChampionCheck(version, version, gate.passed, gate.sentence)


@task(task_run_name="decide", cache_policy=NO_CACHE)
def decide_promotion(params: Params) -> Judgement:
    """Judge this cycle's candidate by every gate, at the level that the held-out set still allows."""
    client = connect(params)
    return judge(client, params, evidence_of_arm(client, params))
