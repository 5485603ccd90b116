"""Closes a cycle's MLflow run and shows what became of it: the stage table, the decision with its links, and the trends."""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass, field
from typing import Any

from redistill.operations.cycle_summary import CycleSummary
from redistill.operations.types import StageReceipt
from redistill.operations.workspace import Workspace
from redistill.params import Params
from tasks import steps
from tasks.orchestration import turns
from tasks.reporting import decision_text, links, trends
from tasks.reporting.cycle_progress import CycleProgress
from tasks.reporting.summarise_cycle import summarise_cycle


@dataclass(slots=True)
class OpenCycle:
    """A cycle whose MLflow run is open, with what its stages did so far, and the raw teacher's digest once it is known."""

    params: Params
    workspace: Workspace
    run_id: str
    name: str
    started_at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    receipts: list[StageReceipt] = field(default_factory=list)
    raw_teacher: str = ""


def close(cycle: OpenCycle, outcome: dict[str, Any], progress: CycleProgress) -> dict[str, Any]:
    """Close a cycle that came to its end; returns its outcome with its name and stages."""
    outcome = {"cycle": cycle.name, "stages": {r.stage: r.outcome for r in cycle.receipts}, **outcome}
    places = links.of_cycle(cycle.params, cycle.workspace, cycle.run_id, outcome["model_version"], turns.present_run_id())
    summary = summarise_cycle(cycle.params, cycle.run_id, cycle.name, cycle.started_at, cycle.receipts, "completed", outcome)
    _close(cycle, summary, decision_text.note(outcome, places))
    progress.decision(outcome, cycle.receipts, decision_text.decision(outcome, summary, places))
    page_of = links.pages_of_runs(cycle.params)
    progress.trends(trends.table_of(trends.write_trends(cycle.params, page_of), page_of))
    return outcome


def close_failed(cycle: OpenCycle, error: BaseException) -> None:
    """Close a cycle that failed or was cancelled. What goes wrong here must not take the place of its error; the next cycle closes a run that stays open."""
    status = turns.status_after(error)
    try:
        summary = summarise_cycle(cycle.params, cycle.run_id, cycle.name, cycle.started_at, cycle.receipts, status, None, error)
        _close(cycle, summary, f"**{status}**: {error}")
    except Exception as closing:
        logging.getLogger("redistill").warning("the run of the cycle could not be closed in MLflow: %s", closing)


def _close(cycle: OpenCycle, summary: CycleSummary, note: str) -> None:
    steps.close_run(cycle.params, cycle.receipts, cycle.raw_teacher, summary, note)
