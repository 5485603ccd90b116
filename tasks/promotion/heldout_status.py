"""``redistill heldout``: what the held-out set can still decide."""

from __future__ import annotations

import datetime as dt
import subprocess
from pathlib import Path
from typing import Any

from redistill.data.types import Prompt
from redistill.evaluation.types import Metric
from redistill.io.parquet import read_records
from redistill.params import Params
from redistill.promotion.alpha_spending import heldout_identity, spendable
from redistill.promotion.evidence import Paired, pair
from redistill.serving.drift import distinct, two_sample_auc
from redistill.statistics.betting import PairedScores
from redistill.statistics.paired_counts import PairedCounts
from tasks.paths import ARTIFACTS
from tasks.promotion.choose_arm import with_arm
from tasks.promotion.evidence import load_benchmark
from tasks.registry import look_ledger
from tasks.registry.runs_and_versions import connect
from tasks.stages.benchmark import HELDOUT

_DISCORDANCE, _SPREAD = 0.2, 0.25
"""Assumptions before any student is benchmarked: two models of one task often disagree on every fifth row, and graded scores differ by this much."""


def heldout(params: Params) -> dict[str, Any]:
    """Size, age, looks, what the next look can rule out, and drift of recent prompts.

    Raises:
        DataError: ``prepare`` has not run.
        RegistryError: the ledger is broken or out of reach.
    """
    params, prompts = with_arm(params), read_records(HELDOUT, Prompt)
    digest = heldout_identity((p.id, p.label or "") for p in prompts)
    looks = look_ledger.read(connect(params), params, digest)
    _, level = spendable(looks, params.promote)
    margin, power_target = params.promote.teacher_gate.margin, params.promote.power
    arm, teacher = (ARTIFACTS / "benchmark" / who for who in (params.promote.arm, "teacher"))
    known = (arm / "report.json").is_file() and (teacher / "report.json").is_file()
    metric = params.promote.scored_by
    paired = (
        pair("student", load_benchmark(arm), "teacher", load_benchmark(teacher), metric).paired if known else _assumed(len(prompts), metric)
    )
    recent = read_records(ARTIFACTS / "prompts" / "pool.parquet", Prompt)
    drift = two_sample_auc(distinct([p.text for p in prompts], params.intake.near_duplicate), [p.text for p in recent])
    return {
        "heldout": digest,
        "rows": len(prompts),
        "slices": {s: sum(p.slice == s for p in prompts) for s in sorted({p.slice for p in prompts})},
        "since": _since(params),
        "looks": len(looks),
        "looks_planned": params.promote.looks_per_heldout,
        "alpha_spent": round(sum(look.spent for look in looks), 6),
        "alpha": params.promote.alpha_per_heldout,
        "next_level": level,
        "metric": metric,
        "discordance": paired.discordance,
        "discordance_is": "observed" if known else "assumed",
        "power_of_an_equal_student": paired.power_if_equal(margin, level) if level > 0 else 0.0,
        "margin": margin,
        "smallest_loss_ruled_out": paired.smallest_loss(level, power_target) if level > 0 else None,
        "drift_auc": None if drift is None else drift.auc,
        "drift_by_chance": None if drift is None else [drift.by_chance.low, drift.by_chance.high],
        "drift_shown": None if drift is None else drift.shown,
        "entries": [{"number": e.number, "at": e.at, "by": e.by, "level": e.level, "verdict": e.verdict} for e in looks],
    }


def _assumed(n: int, metric: Metric) -> Paired:
    if metric == "exact_match":
        return PairedCounts(n, round(n * _DISCORDANCE / 2), round(n * _DISCORDANCE / 2))
    return PairedScores(tuple(_SPREAD if i % 2 else -_SPREAD for i in range(n)))


def _since(params: Params) -> str | None:
    """When the youngest of the files that hold held-out rows last changed: by git where it knows them, else by the clock of the disk."""
    dates = []
    for source in params.data.source:
        file = Path(source.path)
        if source.splits.get("heldout") and file.is_file():
            last_commit = subprocess.run(["git", "log", "-1", "--format=%cI", "--", str(file)], capture_output=True, text=True, check=False)
            dates.append(
                last_commit.stdout.strip() or dt.datetime.fromtimestamp(file.stat().st_mtime, dt.UTC).isoformat(timespec="seconds")
            )
    return max(dates, default=None)
