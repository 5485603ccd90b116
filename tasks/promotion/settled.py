"""Whether a cycle brought anything new, and its outcome in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redistill.operations.types import StageReceipt
from redistill.params import Params
from redistill.promotion.types import PromotionDecision
from redistill.serving.route_flag import read_route
from redistill.serving.types import Route
from tasks.registry import evidence_bundle, transitions
from tasks.registry.history import History
from tasks.registry.runs_and_versions import connect


def is_settled(
    params: Params,
    version: str,
    judged: dict[str, Any],
    planned: Route,
    blocked_reason: str | None,
    receipts: Sequence[StageReceipt],
    history: History,
) -> bool:
    """True if no stage ran, the same decision about the same version is on record, and what is live already follows from it.

    Such a night writes no report, no evidence and no entry in the history.
    """
    if any(r.outcome != "unchanged" for r in receipts) or not evidence_bundle.is_current(params, version, judged):
        return False
    if planned != read_route(transitions.FLAGS) or not transitions.FLAGS.is_file():
        return False
    client = connect(params)
    if judged["decision"]["verdict"] == "promote" and blocked_reason is None:
        return transitions.live(client, params).champion == version
    last = next((event for event in reversed(history.events(client, params)) if event.kind == "hold"), None)
    reason = blocked_reason or judged["decision"]["reasons"][0]
    return last is not None and (last.version, last.reason) == (version, reason[:4000])


def sentence(decision: PromotionDecision, version: str, blocked_reason: str | None, settled: bool, share: float | None = None) -> str:
    """The outcome as a person reads it in the list of runs. ``share``: of a promoted cascade, what the student answers."""
    if decision.verdict == "promote" and blocked_reason is None:
        system = "" if share is None else f" as a cascade, of which the student answers {100 * share:.1f} %"
        return f"nothing to do: version {version} stays live{system}" if settled else f"promoted version {version}{system}"
    reason = blocked_reason or decision.reasons[0]
    held = reason if reason.startswith(f"version {version} ") else f"version {version}, {reason}"
    return f"nothing to do, still on hold: {held}" if settled else f"hold: {held}"
