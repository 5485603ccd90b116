"""Closes a cycle's MLflow run and shows what became of it: the stage table, the decision with its links, and the trends."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from redistill.errors import one_line
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
    closed: bool = False


def close(cycle: OpenCycle, outcome: dict[str, Any], progress: CycleProgress) -> dict[str, Any]:
    """Close a cycle that came to its end; returns its outcome with its name and stages."""
    outcome = {"cycle": cycle.name, "stages": {r.stage: r.outcome for r in cycle.receipts}, **outcome}
    places: list[links.Link] = []
    with _best_effort("the links of the cycle"):
        places = links.of_cycle(cycle.params, cycle.workspace, cycle.run_id, outcome["model_version"], turns.present_run_id())
    summary = summarise_cycle(cycle.params, cycle.run_id, cycle.name, cycle.started_at, cycle.receipts, "completed", outcome)
    _close(cycle, summary, decision_text.note(outcome, places))
    cycle.closed = True
    with _best_effort("the decision"):
        progress.decision(outcome, cycle.receipts, decision_text.decision(outcome, summary, places))
    with _best_effort("the page of trends"):
        page_of = links.pages_of_runs(cycle.params)
        progress.trends(trends.table_of(trends.write_trends(cycle.params, page_of), page_of))
    return outcome


@contextlib.contextmanager
def _best_effort(what: str) -> Iterator[None]:
    """What is only shown must not fail a cycle whose work is done."""
    try:
        yield
    except Exception as error:
        logging.getLogger("redistill").warning("%s could not be shown (%s); the cycle has ended as it should", what, one_line(error))


def close_failed(cycle: OpenCycle, error: BaseException) -> None:
    """Close a cycle that failed or was cancelled. What goes wrong here must not take the place of its error; the next cycle closes a run that stays open."""
    if cycle.closed:
        return
    status = turns.status_after(error)
    try:
        summary = summarise_cycle(cycle.params, cycle.run_id, cycle.name, cycle.started_at, cycle.receipts, status, None, error)
        _close(cycle, summary, f"**{status}**: {one_line(error)}")
    except Exception as closing:
        logging.getLogger("redistill").warning("the run of the cycle could not be closed in MLflow: %s", one_line(closing))
    if status == "failed":
        try:
            # The stages that it finished need not run in another clone.
            steps.push_shared(cycle.params, cycle.run_id)
        except Exception as pushing:
            logging.getLogger("redistill").warning("the shared store did not get what the cycle finished: %s", one_line(pushing))


def _close(cycle: OpenCycle, summary: CycleSummary, note: str) -> None:
    steps.close_run(cycle.params, cycle.receipts, cycle.raw_teacher, summary, note)
