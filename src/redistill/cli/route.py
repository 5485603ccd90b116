"""``redistill route``: who answers, as an operator sees and sets it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from redistill.cli.project import Json, show
from redistill.cli.rehearse import rehearse

app = typer.Typer(no_args_is_help=True, help="Show or set which model responds to requests (the flag in artifacts/route/flags.json).")
FLAGS = Path("artifacts/route/flags.json")
app.command("rehearse")(rehearse)
_Reason = Annotated[str, typer.Option("--reason", help="The reason. It is recorded in the flag.")]


@app.command("get")
def get(as_json: Json = False) -> None:
    """Show which model responds now, whether it is pinned, and why."""
    from redistill.serving.route_flag import read_route, refresh_route

    refresh_route(FLAGS)
    now = read_route(FLAGS)
    summary = {
        "answers": now.answers,
        "pin": now.pin,
        "mode": now.mode,
        "model_version": now.model_version,
        "share": now.share,
        "teacher_slices": list(now.teacher_slices),
        "reason": now.reason,
        "changed_at": now.changed_at,
        "teacher": now.teacher,
        "cascade": None if now.cascade is None else dataclasses.asdict(now.cascade),
        "rollout": None if now.rollout is None else dataclasses.asdict(now.rollout),
    }
    shown = {
        **summary,
        "cascade": now.cascade and now.cascade.rule,
        "rollout": now.rollout
        and f"{now.rollout.share:.1%} of the keys since {now.rollout.since}; version {now.rollout.version} answers the others",
        "share": f"{now.share:.1%}",
        "teacher_slices": ", ".join(now.teacher_slices),
    }
    show(summary, as_json, [f"{k.replace('_', ' '):<14} {'-' if v in (None, '') else v}" for k, v in shown.items()])


@app.command("set")
def pin(
    to: Annotated[
        str, typer.Argument(help="teacher, student, or auto (remove the pin, so that the system decides)", metavar="{teacher|student|auto}")
    ],
    reason: _Reason = "",
    as_json: Json = False,
) -> None:
    """Pin the route to a model, or remove the pin."""
    from redistill.serving.route_flag import update_route, with_pin

    route = update_route(FLAGS, lambda now: with_pin(now, to, reason))
    lines = [f"{route.answers} responds (pin: {route.pin})"]
    if route.answers == "student" and route.cascade is not None:
        lines.append("note: this version was promoted as a cascade; alone, it also answers the requests of which it is not sure")
    show({"answers": route.answers, "pin": route.pin}, as_json, lines)


@app.command("share")
def share(
    percent: Annotated[
        float, typer.Argument(help="How much of the traffic the live system gets, in percent; the teacher answers the rest.")
    ],
    reason: _Reason = "",
    as_json: Json = False,
) -> None:
    """Give the live system a share of the traffic (a canary), by a hash of the caller's key: the same key is always on the same side.

    The keys of a smaller share are part of a larger one. Example: [bold]redistill route share 5 --reason "first day of version 8"[/bold]
    """
    from redistill.serving.route_flag import update_route, with_share

    route = update_route(FLAGS, lambda now: with_share(now, percent, reason))
    show(
        {"answers": route.answers, "share": route.share},
        as_json,
        [f"{100 * route.share:.4g} % of the keys go to the live system ({route.answers})"],
    )


@app.command("slices")
def slices(
    names: Annotated[list[str] | None, typer.Argument(help="The slices; none removes the rule.", metavar="[SLICE]...")] = None,
    reason: _Reason = "",
    as_json: Json = False,
) -> None:
    """Name the slices that the teacher always answers. A request says its slice in the body: {"redistill": {"slice": NAME}}."""
    from redistill.serving.route_flag import update_route, with_teacher_slices

    route = update_route(FLAGS, lambda now: with_teacher_slices(now, names or [], reason))
    listed = ", ".join(route.teacher_slices) or "none"
    show({"teacher_slices": list(route.teacher_slices)}, as_json, [f"slices that the teacher always answers: {listed}"])


@app.command("rollout")
def rollout(
    to: Annotated[
        float, typer.Option("--to", help="The share of the keys that the new version gets, in percent; 100 ends the rollout, 0 stops it.")
    ],
    reason: _Reason = "",
    as_json: Json = False,
) -> None:
    """Move the rollout that is under way to a step by hand. A promotion starts one where serve.rollout_steps is set.

    The router goes on from there by itself: with the next step, or back to the version before when the new one fails or disagrees more often.
    0 gives all keys to the version before, and nothing moves until you say so; [bold]redistill rollback[/bold] makes it the champion again.
    """
    from redistill.serving.rollout import moved_by_hand
    from redistill.serving.route_flag import update_route

    route = update_route(FLAGS, lambda now: moved_by_hand(now, to, reason))
    share = 1.0 if route.rollout is None else route.rollout.share
    others = "" if route.rollout is None else f"; version {route.rollout.version} answers the others"
    show(
        {"model_version": route.model_version, "share": share, "before": None if route.rollout is None else route.rollout.version},
        as_json,
        [f"version {route.model_version} has {share:.1%} of the keys{others}"],
    )
