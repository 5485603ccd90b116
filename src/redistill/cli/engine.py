"""Commands about the distillation engine itself."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from redistill.cli.project import Json, application, show


def conformance(
    impl: Annotated[
        str | None, typer.Option("--impl", help="One implementation; all that are installed if left out.", metavar="NAME")
    ] = None,
    as_json: Json = False,
) -> None:
    """Try the twelve rules of correct distillation on our losses and on what people would otherwise use.

    Small checks on a CPU, a minute at most: each rule's measured error, and what was measured. "Not applicable" means that there is nothing
    the rule could be tried on, such as a cache. Ends with 1 where one of ours fails.

    Example: redistill conformance --impl redistill
    """
    from redistill.conformance.implementations import conformance as run

    found = run(impl)
    tree = {name: {rule: dataclasses.asdict(f) for rule, f in findings.items()} for name, (_, findings) in found.items()}
    lines: list[str | None] = []
    for name, (version, findings) in found.items():
        passed = sum(f.outcome == "pass" for f in findings.values())
        failed = sum(f.outcome == "fail" for f in findings.values())
        lines += ["" if lines else None, f"{name} ({version}): {passed} of {len(findings)} pass, {failed} fail"]
        lines += [
            f"  {rule:<20} {f.outcome:<15} {'' if f.error is None else format(f.error, '.1e'):<8} {f.why}" for rule, f in findings.items()
        ]
    show({"implementations": tree}, as_json, [line for line in lines if line is not None])
    if any(f.outcome == "fail" for name, (_, findings) in found.items() if name.startswith("redistill") for f in findings.values()):
        raise typer.Exit(1)


def tune(
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="How many in all; tune.trials if left out.")] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", min=0.01, help="Of this search; tune.minutes if left out.")] = None,
    as_json: Json = False,
) -> None:
    """Search settings of the promoted arm on the dev split: alpha, learning rate, layers kept, temperature.

    The space is set under tune in params.yaml. Trials train on what the last cycle prepared, bad ones are given up early, and each is a nested
    MLflow run. The held-out rows are not touched. The best is printed as a patch of params.yaml, and not applied. A search that was
    stopped goes on where it was.

    Example: redistill tune --trials 12 --minutes 90
    """
    import yaml

    from redistill.params import load_params
    from redistill.tuning.study import METRICS

    load_params()
    result = application("flows.tune_student").tune_student(trials=trials, minutes=minutes)
    metric = result["metric"]
    best, now = result["best"], result[f"{metric}_now"]
    against = "" if now is None else f"; what params.yaml says now: {_with_interval(now, result[f'{metric}_now_interval'])}"
    found = _with_interval(best[metric], best.get(f"{metric}_interval"))
    lines = [
        f"best of {result['trials']} trials, {result['pruned']} given up early: {METRICS[metric]} {found} on dev{against}",
        "one run each, 95 % intervals over the dev rows; the best of several looks better than it is",
        "",
    ]
    patch = yaml.safe_dump(result["patch"], sort_keys=False) if result["patch"] else "nothing to change\n"
    lines += [*patch.rstrip().splitlines(), "", *(f"plot: {p}" for p in result["plots"])]
    show(result, as_json, lines)


def layers(
    keep: Annotated[int, typer.Argument(min=1, help="How many layers the student should keep.", metavar="KEEP")],
    as_json: Json = False,
) -> None:
    """Search which layers of the tuned teacher its student should keep, on train rows.

    Drops one layer after the other, always the one whose loss costs least. Needs a teacher that a cycle has tuned. The result is a patch of
    params.yaml, and not applied.

    Example: redistill layers 10
    """
    from redistill.params import load_params

    params = load_params()
    search = application("tasks.tuning.layer_search")
    found = search.search_layers(keep, params.data, params.teacher, params.student, lambda line: print(line, file=sys.stderr, flush=True))
    show(found, as_json, [f"student: {{layers: {{listed: {found['layers']}}}}}"])


def _with_interval(value: float, interval: Sequence[float] | None) -> str:
    """Trials of earlier versions have no interval."""
    return f"{value:.3f}" + ("" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})")


def register(app: typer.Typer) -> None:
    app.command()(conformance)
    app.command()(tune)
    app.command()(layers)
