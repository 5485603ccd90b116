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
from redistill.promotion.alpha_spending import heldout_identity, level_of
from redistill.promotion.evidence import Paired, pair
from redistill.serving.drift.prompts import distinct, two_sample_auc
from redistill.statistics.betting import PairedScores
from redistill.statistics.paired_counts import PairedCounts
from tasks.paths import ARTIFACTS
from tasks.promotion.choose_arm import with_arm
from tasks.registry import look_ledger
from tasks.registry.runs_and_versions import connect
from tasks.results.measurements import read_open
from tasks.results.rows import HELDOUT, shown_rows

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
    history = look_ledger.History.of(connect(params), params, digest, [p.id for p in prompts])
    looks, left = history.looks, history.left(params.promote)
    level = level_of(left, params.promote)
    margin, power_target = params.promote.teacher_gate.margin, params.promote.power
    arm, teacher = (shown_rows(params.data).results / who for who in (params.promote.arm, "teacher"))
    known = (arm / "report.json").is_file() and (teacher / "report.json").is_file()
    metric = params.promote.scored_by
    paired = (
        _scaled(pair("student", read_open(arm), "teacher", read_open(teacher), metric).paired, len(prompts))
        if known
        else _assumed(len(prompts), metric)
    )
    recent = read_records(ARTIFACTS / "prompts" / "pool.parquet", Prompt)
    drift = two_sample_auc(
        distinct([p.text for p in shown_rows(params.data).prompts()], params.intake.near_duplicate), [p.text for p in recent]
    )
    return {
        "heldout": digest,
        "rows": len(prompts),
        "slices": {s: sum(p.slice == s for p in prompts) for s in sorted({p.slice for p in prompts})},
        "since": _since(params),
        "looks": len(looks),
        "sealed": params.promote.sealed,
        "alpha_left": round(left, 6),
        "alpha_spent": round(params.promote.alpha_per_heldout - left, 6),
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
        "entries": [
            {
                "number": e.number,
                "kind": e.kind,
                "at": e.at,
                "by": e.by,
                "level": e.level,
                "verdict": e.verdict if e.kind == "decision" else None,
            }
            for e in looks
        ],
    }


def _scaled(paired: Paired, n: int) -> Paired:
    """What the shown rows say of ``n`` held-out rows; the same rows where held-out rows are open."""
    if paired.n == n:
        return paired
    if isinstance(paired, PairedCounts):
        only_candidate, only_reference = (round(count * n / paired.n) for count in (paired.only_candidate, paired.only_reference))
        return PairedCounts(n, only_candidate, only_reference)
    return PairedScores(tuple(paired.differences[i % paired.n] for i in range(n)))


def _assumed(n: int, metric: Metric) -> Paired:
    if metric == "exact_match":
        return PairedCounts(n, round(n * _DISCORDANCE / 2), round(n * _DISCORDANCE / 2))
    return PairedScores(tuple(_SPREAD if i % 2 else -_SPREAD for i in range(n)))


def _since(params: Params) -> str | None:
    """When the youngest of the files that hold held-out rows last changed: by git where it knows them, else by the clock of the disk."""
    dates = []
    for source in params.data.files:
        file = Path(source.path)
        if source.splits.get("heldout") and file.is_file():
            last_commit = subprocess.run(["git", "log", "-1", "--format=%cI", "--", str(file)], capture_output=True, text=True, check=False)
            dates.append(
                last_commit.stdout.strip() or dt.datetime.fromtimestamp(file.stat().st_mtime, dt.UTC).isoformat(timespec="seconds")
            )
    return max(dates, default=None)
