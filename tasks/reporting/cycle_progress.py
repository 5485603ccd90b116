"""What a person sees of a running cycle: log lines, a progress artifact, a stage table, the decision."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from redistill.operations.policy import ReaskPlan
from redistill.operations.types import StageReceipt
from redistill.operations.workspace import Workspace
from tasks.reporting import publishing

_EVERY_S = 5.0
_ACTIONS = {
    "keep": "new teacher: no slice is asked again",
    "slices": "new teacher: only the slices that moved are asked again",
    "all": "new teacher: everything is asked again",
}


class CycleProgress:
    """Writes to Prefect's log and artifacts. Each artifact update is an API call, so there is a pause between two updates."""

    def __init__(self, total: int, workspace: Workspace) -> None:
        self._total = total
        self._workspace = workspace
        self._receipts: list[StageReceipt] = []
        self._parts: dict[str, float] = {}
        self._artifact: UUID | None = None
        self._updated = 0.0
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        try:
            get_run_logger().info(line)
        except MissingContextError:
            logging.getLogger("redistill").info(line)

    def progress(self, stage: str, done: int, total: int, rest: str = "") -> None:
        """Progress inside a stage, as its share of the whole cycle. Stages that run side by side call this from threads of their own."""
        with self._lock:
            self._parts[stage] = done / max(1, total)
            now = time.monotonic()
            if now - self._updated >= _EVERY_S:
                self._updated = now
                self._show(f"{stage}: {done} of {total} {rest}".rstrip())

    def done(self, receipt: StageReceipt) -> None:
        with self._lock:
            self._done(receipt)

    def _done(self, receipt: StageReceipt) -> None:
        self._parts.pop(receipt.stage, None)
        self._receipts.append(receipt)
        self.say(
            f"{receipt.stage}: {receipt.outcome} ({receipt.seconds:.1f} s)" + (f", because {'; '.join(receipt.why)}" if receipt.why else "")
        )
        if receipt.outcome != "unchanged" or len(self._receipts) == self._total:
            self._show(f"{receipt.stage}: {receipt.outcome}")

    def _show(self, text: str) -> None:
        percent = 100.0 * (len(self._receipts) + sum(self._parts.values())) / self._total
        self._artifact = publishing.progress(self._artifact, self._workspace.key("progress"), percent, text)

    def reasking(self, plan: ReaskPlan) -> None:
        """What a new teacher is asked again, slice by slice, and why."""
        publishing.markdown(
            self._workspace.key("reasking"), f"# {_ACTIONS[plan.action]}\n\n" + "\n".join(f"- {r}" for r in plan.reasons), plan.action
        )
        for line in (_ACTIONS[plan.action], *plan.reasons):
            self.say(line)

    def decision(self, outcome: dict[str, Any], receipts: Sequence[StageReceipt], text: str) -> None:
        """The stage table and the decision as artifacts; ``text`` is the decision's."""
        rows = [
            {"stage": r.stage, "outcome": r.outcome, "seconds": round(r.seconds, 1), "because": "; ".join(r.why)[:300]} for r in receipts
        ]
        publishing.table(self._workspace.key("stages"), rows, "What each stage did, how long it took, and why it ran")
        publishing.markdown(self._workspace.key("decision"), text, f"{outcome['cycle']}: {outcome['verdict']}")
        for line in (f"{outcome['verdict']} (version {outcome['model_version']})", *outcome["reasons"], f"route: {outcome['route']}"):
            self.say(line)

    def trends(self, table: str) -> None:
        """The last nights, side by side."""
        publishing.markdown(self._workspace.key("trends"), f"# {self._workspace.data_name}: the last nights\n\n{table}", "The last nights")
