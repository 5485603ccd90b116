"""Commands about the distillation engine itself."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from redistill.cli.project import Json, application, flow, show


def conformance(
    impl: Annotated[
        str | None, typer.Option("--impl", help="Name of one implementation. Default: all that are installed.", metavar="NAME")
    ] = None,
    as_json: Json = False,
) -> None:
    """Test the twelve rules of correct distillation on the losses of redistill and of other libraries.

    These are small checks on a CPU; they take at most a minute. The output has the measured error of each rule, and what was measured.
    "Not applicable" means that the implementation has nothing to test the rule on, for example no cache.
    The exit code is 1 if a loss of redistill fails.

    Example: redistill conformance --impl redistill
    """
    from redistill.conformance.implementations import conformance as run

    results = run(impl)
    tree = {name: {rule: dataclasses.asdict(f) for rule, f in findings.items()} for name, (_, findings) in results.items()}
    lines: list[str | None] = []
    for name, (version, findings) in results.items():
        passed = sum(f.outcome == "pass" for f in findings.values())
        failed = sum(f.outcome == "fail" for f in findings.values())
        lines += ["" if lines else None, f"{name} ({version}): {passed} of {len(findings)} pass, {failed} fail"]
        lines += [
            f"  {rule:<20} {f.outcome:<15} {'' if f.error is None else format(f.error, '.1e'):<8} {f.why}" for rule, f in findings.items()
        ]
    show({"implementations": tree}, as_json, [line for line in lines if line is not None])
    if any(f.outcome == "fail" for name, (_, findings) in results.items() if name.startswith("redistill") for f in findings.values()):
        raise typer.Exit(1)


def tune(
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Total number of trials. Default: tune.trials.")] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", min=0.01, help="Time limit of this search. Default: tune.minutes.")] = None,
    as_json: Json = False,
) -> None:
    """Search settings of the promoted arm on the dev split: alpha, learning rate, layers kept, temperature.

    The section tune of params.yaml sets the search space. Trials train on the data that the last cycle prepared. Bad trials stop early.
    Each trial is a nested MLflow run. Held-out rows are not used.
    The best settings are printed as a patch of params.yaml; the file itself does not change.
    If the search was interrupted, run the command again to continue it.

    Example: redistill tune --trials 12 --minutes 90
    """
    import yaml

    from redistill.params import load_params
    from redistill.tuning.study import METRICS

    load_params()
    result = flow("flows.tune_student").tune_student(trials=trials, minutes=minutes)
    metric = result["metric"]
    best, now = result["best"], result[f"{metric}_now"]
    against = "" if now is None else f"; current params.yaml: {_with_interval(now, result[f'{metric}_now_interval'])}"
    score = _with_interval(best[metric], best.get(f"{metric}_interval"))
    lines = [
        f"best of {result['trials']} trials, {result['pruned']} stopped early: {METRICS[metric]} {score} on dev{against}",
        "one run each, 95 % intervals over the dev rows; the score of the best trial is too high on average, because it was selected",
        "",
    ]
    patch = yaml.safe_dump(result["patch"], sort_keys=False) if result["patch"] else "nothing to change\n"
    lines += [*patch.rstrip().splitlines(), "", *(f"plot: {p}" for p in result["plots"])]
    show(result, as_json, lines)


def layers(
    keep: Annotated[int, typer.Argument(min=1, help="Number of layers that the student keeps.", metavar="KEEP")],
    as_json: Json = False,
) -> None:
    """Search which layers of the tuned teacher its student should keep, on train rows.

    The search drops one layer after the other. It always drops the layer whose removal increases the loss least.
    A cycle must have tuned the teacher before.
    The result is printed as a patch of params.yaml; the file itself does not change.

    Example: redistill layers 10
    """
    from redistill.params import load_params

    params = load_params()
    application("tasks.locking.licence_check").require_reviewed()
    search = application("tasks.tuning.layer_search")
    result = search.search_layers(keep, params.data, params.teacher, params.student, lambda line: print(line, file=sys.stderr, flush=True))
    show(result, as_json, [f"student: {{layers: {{listed: {result['layers']}}}}}"])


def _with_interval(value: float, interval: Sequence[float] | None) -> str:
    """The value with its interval, if it has one. Trials of earlier versions have none."""
    return f"{value:.3f}" + ("" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})")


def register(app: typer.Typer) -> None:
    app.command()(conformance)
    app.command()(tune)
    app.command()(layers)
