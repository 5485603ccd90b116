"""What a person reads about a decision, as Markdown: the artifact of a cycle in Prefect, and the description of its run in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redistill.operations.cycle_summary import CycleSummary
from tasks.reporting.links import Link

_MARKS = {"pass": "✓ pass", "hold": "– hold", "fail": "✗ fail"}


def decision(outcome: dict[str, Any], summary: CycleSummary, links: Sequence[Link]) -> str:
    """The verdict, where traffic goes, the reasons, the gates with their whole evidence, what the teacher was asked, and where to read on."""
    return "\n\n".join(part for part in (_head(outcome), _reasons(outcome), _gates(outcome), _use(summary), _links(links)) if part)


def note(outcome: dict[str, Any], links: Sequence[Link]) -> str:
    """The same in short, without the gates, which MLflow has in the evidence."""
    return "\n\n".join(part for part in (_head(outcome), _reasons(outcome), _links(links)) if part)


def _head(outcome: dict[str, Any]) -> str:
    head = f"# {outcome['verdict']}: version {outcome['model_version'] or 'none'}\n\nTraffic goes to the **{outcome['route']}**."
    return head + (f"\n\n**Not promoted:** {outcome['blocked']}." if outcome["blocked"] else "")


def _reasons(outcome: dict[str, Any]) -> str:
    return "\n".join(f"- {reason}" for reason in outcome["reasons"])


def _gates(outcome: dict[str, Any]) -> str:
    rows = [
        f"| {gate['name'].replace('_', ' ')} | {_MARKS.get(gate['result'], gate['result'])} | {gate['sentence'].replace('|', '/')} |"
        for gate in outcome["gates"]
    ]
    return "\n".join(["| gate | outcome | evidence |", "|---|---|---|", *rows]) if rows else ""


def _use(summary: CycleSummary) -> str:
    use = summary.use
    if use is None or not use.asked_rows + use.stored_rows:
        return ""
    return (
        f"The teacher was asked {use.asked_rows:,} rows ({use.asked_tokens:,} tokens); "
        f"{use.stored_rows:,} rows ({use.stored_tokens:,} tokens) were in the store and were not asked again."
    )


def _links(links: Sequence[Link]) -> str:
    return "\n".join(f"- {link.markdown}" for link in links)
