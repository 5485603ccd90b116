"""What a person reads about a decision, as Markdown: the artifact of a cycle in Prefect, and the description of its run in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redistill.operations.cycle_summary import CycleSummary
from tasks.reporting.links import Link

_MARKS = {"pass": "✓ pass", "hold": "– hold", "fail": "✗ fail", "sealed": "· sealed"}


def decision(outcome: dict[str, Any], summary: CycleSummary, links: Sequence[Link]) -> str:
    """The verdict, where traffic goes, the reasons, the gates with their whole evidence, what the teacher was asked, and where to read on."""
    gates = _gates("Gates" if outcome.get("mode") != "cascade" else "Gates of the cascade", outcome["gates"])
    alone = _gates("Gates of the student alone, judged after the cascade", outcome.get("alone") or ())
    monitor = outcome.get("on_monitor")
    shown = _gates(f"The same gates on the {monitor['rows']:,} monitor rows, which do not decide", monitor["gates"]) if monitor else ""
    return "\n\n".join(part for part in (_head(outcome), _reasons(outcome), gates, alone, shown, _use(summary), _links(links)) if part)


def note(outcome: dict[str, Any], links: Sequence[Link]) -> str:
    """The same in short, without the gates, which MLflow has in the evidence."""
    reasons = "\n".join(f"- {reason}" for reason in outcome["reasons"])
    return "\n\n".join(part for part in (_head(outcome), reasons, _links(links)) if part)


def _head(outcome: dict[str, Any]) -> str:
    version = f"version {outcome['model_version'] or 'none'}"
    title = f"passed, but not promoted: {version}" if outcome["blocked"] else f"{outcome['verdict']}: {version}"
    blocked = f"\n\nNot promoted, because {outcome['blocked']}." if outcome["blocked"] else ""
    share = outcome.get("student_share")
    cascade = (
        f": the student answers {100 * share:.1f} % of the requests, the teacher the others"
        if outcome["route"] == "cascade" and share
        else ""
    )
    return f"# {title}\n\nTraffic goes to the **{outcome['route']}**{cascade}.{blocked}"


def _reasons(outcome: dict[str, Any]) -> str:
    evidence = {gate["sentence"] for gate in (*outcome["gates"], *(outcome.get("on_monitor") or {"gates": ()})["gates"])}
    return "\n".join(f"- {reason}" for reason in outcome["reasons"] if reason not in evidence)


def _gates(title: str, gates: Sequence[dict[str, Any]]) -> str:
    """A list: Prefect's page does not break the lines of a table's cells, so their ends would be out of sight."""
    lines = [f"- {_MARKS.get(gate['result'], gate['result'])} · **{gate['name'].replace('_', ' ')}**: {gate['sentence']}" for gate in gates]
    return "\n".join([f"## {title}", "", *lines]) if lines else ""


def _use(summary: CycleSummary) -> str:
    use = summary.use
    if use is None or not use.asked_rows + use.stored_rows:
        return ""
    return (
        f"The teacher was asked {use.asked_rows:,} rows ({use.asked_tokens:,} tokens); "
        f"{use.stored_rows:,} rows ({use.stored_tokens:,} tokens) were in the store and were not asked again."
    )


def _links(links: Sequence[Link]) -> str:
    return "\n".join(["## Read on", "", *(f"- {link.markdown}" for link in links)]) if links else ""
