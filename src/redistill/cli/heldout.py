"""``redistill heldout``: what the held-out set can still decide, and the end of its use."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from redistill.cli.project import Json, application, show

heldout_app = typer.Typer(invoke_without_command=True, rich_markup_mode="rich")

Reason = Annotated[str, typer.Option("--reason", help="The reason. It is recorded.")]


@heldout_app.callback()
def heldout(ctx: typer.Context, as_json: Json = False) -> None:
    """Show what the held-out set can still decide: size, power, looks used, age, and drift of recent prompts.

    [bold]redistill heldout retire[/bold] ends the use of the set, and shows the results that were sealed.
    """
    if ctx.invoked_subcommand is not None:
        return
    from redistill.params import load_params

    status = application("tasks.promotion.heldout_status").heldout(load_params())
    smallest = status["smallest_loss_ruled_out"]
    slices = ", ".join(f"{name} {n}" for name, n in status["slices"].items())
    lines = [
        f"held-out   {status['rows']} rows ({slices}), digest {status['heldout'][:16]}",
        f"since      {status['since'] or 'unknown'}",
        "results    "
        + (
            "sealed: people see the monitor rows"
            if status["sealed"]
            else "open: people see them, so what they learn from them is not counted"
        ),
        f"looks      {status['looks']}; alpha left {status['alpha_left']:.4g} of {status['alpha']:g}, next level {status['next_level']:.2g}",
        *(f"           {e['number']:>3}  {e['at']}  {e['by']}: {_look(e)}" for e in status["entries"]),
    ]
    if smallest is None:
        lines.append("power      none: this held-out set is used up; label new prompts and put them in its place")
    else:
        lines.append(
            f"power      an equal student passes a margin of {100 * status['margin']:g} points with {100 * status['power_of_an_equal_student']:.0f} % "
            f"({status['discordance_is']} discordance {status['discordance']:.2f}); smallest loss that can be ruled out: {100 * smallest:.1f} points"
        )
    if status["drift_auc"] is None:
        lines.append("drift      unknown: too few rows")
    else:
        low, high = status["drift_by_chance"]
        verdict = "drift is shown" if status["drift_shown"] else "no drift is shown"
        lines.append(
            f"drift      {verdict}: AUC {status['drift_auc']:.2f} of a classifier that separates pool prompts from labelled ones; without drift {low:.2f} to {high:.2f} (95 %)"
        )
    show(status, as_json, lines)


def _look(entry: dict[str, Any]) -> str:
    return f"{entry['verdict']} at level {entry['level']:.2g}" if entry["kind"] == "decision" else str(entry["kind"])


@heldout_app.command()
def retire(
    reason: Reason = "",
    force: Annotated[bool, typer.Option("--force", help="Retire the set although decisions are left on it.")] = False,
    as_json: Json = False,
) -> None:
    """End the use of this held-out set: its sealed results are written where people can read them, and it decides nothing any more.

    Its rows may train the next student: name their file under `train` in data.source, and give `heldout` new labelled rows.
    """
    from redistill.params import load_params

    result = application("tasks.promotion.retire_heldout").retire(load_params(), reason, force=force)
    lines = [
        f"held-out set {result['heldout'][:16]} ({result['rows']} rows) is retired; it decides nothing any more",
        f"results    {result['folder']}",
        *(f"           {row['who']}: exact match {100 * row['exact_match']:.1f} %, F1 {100 * row['f1']:.1f} %" for row in result["models"]),
        "next       put new labelled rows into the split heldout; the retired rows may be named under train in data.source",
    ]
    show(result, as_json, lines)
