"""Commands that judge, promote, roll back, verify and rebuild model versions, and that show their history and cost."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated, Any

import typer

from redistill.cli.project import Json, application, show
from redistill.errors import ConfigError, RegistryError

Version = Annotated[
    str, typer.Argument(help="The number of a version, an alias (champion, challenger, previous, reference), or NAME/VERSION.")
]
Why = Annotated[str, typer.Option("--reason", help="The reason. It is recorded with your name and the time.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    for command in (gate, promote, reject, rollback, reference, freeze, history, lineage, reproduce):
        app.command()(command)


def gate(version: Version, as_json: Json = False) -> None:
    """Judge a registered version by every gate of promote.gates, even if redistill did not train it.

    This uses the held-out set, so it counts as a look. The same decision again is not a new look. See [bold]redistill heldout[/bold].
    """
    number, judgement = application("tasks.promotion.judge_version").gate(_params(), version)
    decision = judgement.decision
    system = None if judgement.cascade is None else judgement.cascade.cascade
    result = {
        "version": number,
        "verdict": decision.verdict,
        "mode": decision.mode,
        "cascade": system and dataclasses.asdict(system),
        "gates": [dataclasses.asdict(g) for g in decision.gates],
        "systems": [dataclasses.asdict(step) for step in decision.steps],
        "on_monitor": judgement.on_monitor and dataclasses.asdict(judgement.on_monitor),
    }
    lines = [f"version {number}: {decision.verdict}" + (f" as {decision.mode}" if decision.verdict == "promote" else "")]
    named = {"student": "the student alone", "cascade": f"as a cascade ({system.rule})" if system else ""}
    lines += _systems(decision, named)
    if judgement.on_monitor is not None:
        lines += ["on the monitor rows, which do not decide:", *_systems(judgement.on_monitor, named)]
    show({**result, "reasons": list(decision.reasons)}, as_json, lines)


def _systems(decision: Any, named: dict[str, str]) -> list[str]:
    """The gates of every system that was judged. After a hold on sealed rows there is one list: people do not learn which systems were judged."""
    lines = []
    for step in decision.steps:
        lines.append(f"{named[step.mode]}: {step.verdict}")
        lines += [f"  {g.result:<6}  {g.name}: {g.sentence}" for g in step.gates]
    return lines or [f"  {g.result:<6}  {g.name}: {g.sentence}" for g in decision.gates]


def promote(version: Version, reason: Why = "", as_json: Json = False) -> None:
    """Approve a challenger: make it the champion, keep the old champion as previous, and send traffic to the new one.

    Its gates must have passed, and its signed evidence must verify.
    If promote.two_people is set, the approver must not be the person who started its cycle.
    """
    show_live(application("tasks.promotion.approve").approve(_params(), version, reason), as_json)


def reject(version: Version, reason: Why = "", as_json: Json = False) -> None:
    """Reject a challenger. The rejection is recorded; nothing else changes."""
    number = application("tasks.promotion.approve").reject(_params(), version, reason)
    show({"rejected": number}, as_json, [f"version {number} was rejected; nothing else has changed"])


def rollback(
    to: Annotated[str | None, typer.Option("--to", help="The version to return to. Default: the previous champion.")] = None,
    reason: Why = "",
    as_json: Json = False,
) -> None:
    """Return to the previous champion, or to an earlier one whose evidence verifies. Champion and route change together."""
    show_live(application("tasks.promotion.approve").rollback(_params(), to, reason), as_json)


def reference(version: Version, reason: Why = "", as_json: Json = False) -> None:
    """Set the reference, a frozen version: later students must not become worse than it in small steps. Default: the first champion."""
    show_live(application("tasks.promotion.approve").set_reference(_params(), version, reason), as_json)


def freeze(
    until: Annotated[
        str | None, typer.Option("--until", help="The last day of the freeze, in UTC, such as 2026-12-31.", metavar="DATE")
    ] = None,
    end: Annotated[bool, typer.Option("--end", help="End the freeze now.")] = False,
    reason: Why = "",
    as_json: Json = False,
) -> None:
    """Promote nothing until a date. Nights go on, and a champion that fails its re-test still loses its traffic."""
    if end == (until is not None):
        raise ConfigError("name a date with --until, or end the freeze with --end")
    freezing = application("tasks.promotion.freeze")
    if until is None:
        ended = freezing.end_freeze(_params(), reason)
        show({"frozen": False, "ended": ended}, as_json, ["the freeze has ended" if ended else "there was no freeze"])
        return
    new = freezing.freeze(_params(), until, reason)
    show({"frozen": True, **dataclasses.asdict(new)}, as_json, [new.sentence])


def history(as_json: Json = False) -> None:
    """List every promotion, hold, rejection and rollback: when, by whom, and why."""
    params = _params()
    registry, moves = application("tasks.registry.runs_and_versions"), application("tasks.registry.transitions")
    client = registry.connect(params)
    recovered = moves.recover(client, params)
    events = moves.history(client, params)
    outside = moves.moved_outside(client, params, events)
    lines = [f"{e.at[:19]}  {e.kind:<9} {e.version or '-':>4}  {e.by}: {e.reason}" for e in events] or ["nothing has happened yet"]
    lines += [f"warning: {warning}" for warning in (recovered, outside) if warning]
    show({"events": [dataclasses.asdict(e) for e in events], "recovered": recovered, "moved_outside": outside}, as_json, lines)


def lineage(version: Version, as_json: Json = False) -> None:
    """Print and verify the chain from a version to the digest of every input.

    Each link is compared with the files on disk. If a link is missing or was changed, the command names it and the exit code is 6.
    """
    number, links = application("tasks.reporting.verify_lineage").chain(_params(), version)
    broken = [link for link in links if link.state != "ok"]
    lines, part = [], ""
    for link in links:
        if link.part != part:
            part = link.part
            lines.append(part)
        note = f"  ({link.note})" if link.note else ""
        lines.append(f"  {link.state:<8}{link.digest[:16]:<18}{link.what}{note}")
    lines.append(f"version {number}: {len(links)} links, {'all verified' if not broken else f'{len(broken)} broken'}")
    show({"version": number, "links": [dataclasses.asdict(link) for link in links], "broken": len(broken)}, as_json, lines)
    if broken:
        first = broken[0]
        raise RegistryError(
            f"the chain of version {number} is broken at {first.part}: {first.what} is {first.state}{f' ({first.note})' if first.note else ''}"
        )


def reproduce(
    version: Version,
    allow: Annotated[
        float,
        typer.Option("--allow", help="Share of rows whose response may differ, because other machines round differently.", min=0, max=1),
    ] = 0.0,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the clean checkout in .redistill/reproduce/.")] = False,
    as_json: Json = False,
) -> None:
    """Build a version again from its signed bundle, in a clean checkout, and compare the responses row by row with the signed ones.

    All stages of the version run again, without a cache, so this takes as long as they did. The exit code is 6 if more rows differ than --allow.
    """

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    result = application("tasks.reporting.reproduce").reproduce(_params(), version, say, keep=keep)
    differ = result["rows"] - result["same_response"]
    lines = [
        f"version {result['version']} built again from commit {result['commit'][:12]} in {result['seconds']:.0f} s",
        f"weights   {'identical' if result['weights_identical'] else 'differ'}",
        f"responses {result['same_response']} of {result['rows']} identical; {result['only_signed_right']} rows right only as signed, "
        f"{result['only_rebuilt_right']} only as rebuilt",
    ]
    show({**result, "reproduced": differ <= allow * result["rows"]}, as_json, lines)
    if differ > allow * result["rows"]:
        raise RegistryError(
            f"{differ} of {result['rows']} responses differ, more than --allow {allow:g}: version {result['version']} was not reproduced"
        )


def show_live(live: Any, as_json: bool) -> None:
    summary = {
        "champion": live.champion,
        "previous": live.previous,
        "reference": live.reference,
        "route": live.route.answers,
        "pin": live.route.pin,
    }
    lines = [f"champion {summary['champion'] or '-'}, previous {summary['previous'] or '-'}, reference {summary['reference'] or '-'}"]
    lines.append(f"route:   {summary['route']}" + ("" if live.route.pin == "none" else f" (pinned: {live.route.pin})"))
    show(summary, as_json, lines)


def _params() -> Any:
    from redistill.params import load_params

    return load_params()
