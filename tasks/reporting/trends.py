"""The page of trends over nights, written at the end of each cycle, also of one that found nothing to do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

from redistill.io.atomic import replacing
from redistill.io.json import write_json
from redistill.operations.cycle_summary import CycleSummary, Quality
from redistill.params import Params
from tasks.paths import ARTIFACTS
from tasks.registry.cycle_summaries import recent_cycles

TRENDS = ARTIFACTS / "trends"
"""Not in the folder of the report: that is evidence, which a quiet night does not change."""
DAYS = 90
_SHOWN = 14


def write_trends(params: Params, page_of: Callable[[str], str | None]) -> list[CycleSummary]:
    """Write ``nights.json`` and ``index.html``; returns the cycles, oldest first. ``page_of`` gives the address of an MLflow run, if it has one."""
    from redistill.report.trends import render_trends

    nights = recent_cycles(params, DAYS)
    trees = json.loads(json.dumps([dataclasses.asdict(night) for night in nights], default=str))
    TRENDS.mkdir(parents=True, exist_ok=True)
    write_json(TRENDS / "nights.json", trees)
    with replacing(TRENDS / "index.html") as temporary:
        temporary.write_text(render_trends(params.data.name, trees, [page_of(night.run_id) for night in nights]), encoding="utf-8")
    return nights


def table_of(nights: list[CycleSummary], page_of: Callable[[str], str | None]) -> str:
    """The last two weeks as a Markdown table, the newest first. Prefect's page does not break its lines, so the sentence comes last."""
    head = "| night | student | teacher | asked | minutes | USD | MB | outcome |\n|---|---|---|---|---|---|---|---|\n"
    return head + "\n".join(_row(night, page_of(night.run_id)) for night in reversed(nights[-_SHOWN:]))


def _row(night: CycleSummary, page: str | None) -> str:
    when = f"{night.started_at:%Y-%m-%d %H:%M}"
    cells = [
        f"[{when}]({page})" if page else when,
        _percent(night.student),
        _percent(night.teacher),
        "–" if night.use is None else f"{night.use.asked_rows:,}",
        f"{night.seconds / 60:.1f}",
        "–" if night.usd is None else f"{night.usd:.3f}",
        "–" if night.disk_bytes is None else f"{night.disk_bytes / 1e6:,.0f}",
        " ".join((night.sentence or night.status).replace("|", "/").split()),
    ]
    return f"| {' | '.join(cells)} |"


def _percent(quality: Quality | None) -> str:
    return "–" if quality is None else f"{100 * quality.value:.1f} %"
