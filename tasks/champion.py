"""Re-test what is live: today's champion on today's held-out rows against today's teacher."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from redistill import lineage
from redistill.artifacts import read_json, read_records, tree_digest
from redistill.config import Params
from redistill.environment import child_environment
from redistill.evaluation import report_from_json
from redistill.promotion import decide, holds
from redistill.records import EvalReport, Outcome, PromotionDecision
from tasks.benchmark import memo_directory
from tasks.edge import ARTIFACTS, STATE
from tasks.registry import alias, connect

Evaluated = tuple[EvalReport, list[Outcome]]


@dataclass(frozen=True, slots=True)
class ChampionCheck:
    """What the re-test found. ``evaluated`` is None where the champion's weights could not be had."""

    version: str
    holds: bool
    sentence: str
    directory: str | None


@task(task_run_name="retest-champion", cache_policy=NO_CACHE)
def retest_champion(params: Params) -> ChampionCheck | None:
    """Benchmark the champion again and judge it against the teacher; None when nothing is live."""
    client = connect(params)
    version = alias(client, params.data.name, lineage.CHAMPION)
    if version is None:
        return None
    try:
        digest = client.get_model_version(params.data.name, version).tags[lineage.TAG_MODEL_DIGEST]
        measured = memo_directory(digest, params.data, params.benchmark)
        if not (measured / "report.json").is_file():
            _measure(_checkpoint(params, version, digest), measured)
    except Exception as error:
        return ChampionCheck(version, False, f"champion version {version} cannot be loaded ({str(error).splitlines()[0]})", None)
    champion = evaluated(measured)
    teacher = evaluated(ARTIFACTS / "benchmark" / "teacher")
    gate = holds(champion[0], champion[1], teacher[0], teacher[1], params.promote)
    return ChampionCheck(version, gate.passed, gate.sentence, str(measured))


def _checkpoint(params: Params, version: str, digest: str) -> Path:
    """The champion's weights: the arm on disk where it is the same, else from the registry, checked against its digest."""
    here = ARTIFACTS / "students" / params.promote.arm
    if here.is_dir() and tree_digest(here) == digest:
        return here
    import mlflow

    target = STATE / "models" / f"version-{digest[:16]}"
    if not target.is_dir():
        mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{params.data.name}/{version}", dst_path=str(target))
    for folder in sorted(p.parent for p in target.rglob("config.json")):
        if tree_digest(folder) == digest:
            return folder
    raise ValueError(f"its files do not have the registered digest {digest[:12]}")


def _measure(checkpoint: Path, target: Path) -> None:
    command = [sys.executable, "-m", "tasks.benchmark", "--checkpoint", str(checkpoint), "--out", str(STATE / "evaluations" / "champion")]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), check=False)
    if done.returncode or not (target / "report.json").is_file():
        raise ValueError(f"its benchmark failed: {' / '.join(done.stderr.strip().splitlines()[-3:])}")


def evaluated(folder: Path) -> Evaluated:
    """A benchmark's report and outcomes, as records."""
    return report_from_json(read_json(folder / "report.json")), read_records(folder / "outcomes.parquet", Outcome)


@task(task_run_name="decide", cache_policy=NO_CACHE)
def decide_promotion(params: Params, champion: ChampionCheck | None) -> PromotionDecision:
    """Judge the candidate on paired outcomes against teacher and champion."""
    candidate = evaluated(ARTIFACTS / "benchmark" / params.promote.arm)
    linear = ARTIFACTS / "benchmark" / "linear"
    live = evaluated(Path(champion.directory)) if champion is not None and champion.directory else None
    return decide(
        candidate[0],
        candidate[1],
        evaluated(ARTIFACTS / "benchmark" / "teacher"),
        live,
        evaluated(linear) if linear.is_dir() else None,
        params.promote,
    )
