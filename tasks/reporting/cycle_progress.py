"""What a person sees of a running cycle: log lines, a progress artifact, a stage table, the decision."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from redistill.operations.types import StageReceipt
from redistill.promotion.types import PromotionDecision

_EVERY_S = 5.0


class CycleProgress:
    """Writes to Prefect's log and artifacts. Each artifact update is an API call, so there is a pause between two updates."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._receipts: list[StageReceipt] = []
        self._parts: dict[str, float] = {}
        self._artifact: Any = None
        self._updated = 0.0
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        try:
            get_run_logger().info(line)
        except MissingContextError:
            logging.getLogger("redistill").info(line)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Progress inside a stage, as its share of the whole cycle. Stages that run side by side call this from threads of their own."""
        with self._lock:
            self._parts[stage] = done / max(1, total)
            now = time.monotonic()
            if now - self._updated >= _EVERY_S:
                self._updated = now
                self._show(self._percent(), f"{stage}: {done} of {total}")

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
            self._show(self._percent(), f"{receipt.stage}: {receipt.outcome}")

    def _percent(self) -> float:
        return 100.0 * (len(self._receipts) + sum(self._parts.values())) / self._total

    def _show(self, percent: float, text: str) -> None:
        if self._artifact is None:
            self._artifact = create_progress_artifact(progress=percent, key="cycle-progress", description=text)
        else:
            update_progress_artifact(self._artifact, progress=percent, description=text)

    def decision(self, outcome: dict[str, Any], decision: PromotionDecision, receipts: Sequence[StageReceipt]) -> None:
        """The stage table and the decision as artifacts."""
        rows = [{"stage": r.stage, "outcome": r.outcome, "seconds": round(r.seconds, 1)} for r in receipts]
        create_table_artifact(table=rows, key="stages", description="What each stage did, and how long it took")
        gates = "\n".join(f"| {g.name} | {g.result} | {g.sentence} |" for g in decision.gates)
        text = (
            f"# {decision.verdict}: version {outcome['model_version']}\n\n"
            f"Traffic goes to the **{outcome['route']}**.\n\n"
            + (f"**Not promoted:** {outcome['blocked']}.\n\n" if outcome["blocked"] else "")
            + "\n".join(f"- {r}" for r in decision.reasons)
            + f"\n\n| gate | outcome | evidence |\n|---|---|---|\n{gates}\n"
        )
        create_markdown_artifact(markdown=text, key="decision", description=f"{outcome['cycle']}: {decision.verdict}")
        for line in (f"verdict: {decision.verdict} (version {outcome['model_version']})", *decision.reasons, f"route: {outcome['route']}"):
            self.say(line)
