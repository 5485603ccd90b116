"""``redistill route rehearse``: what another mode or threshold would have done with the traffic of the last days."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from redistill.cli.project import Json, application, show
from redistill.errors import ConfigError

_NAMES = {
    "agreement": ("agreement with the teacher", ".1%"),
    "share": ("answered by the student", ".1%"),
    "model_seconds_per_1000": ("model seconds per 1,000 requests", ",.1f"),
    "usd_per_1000": ("USD per 1,000 requests", ".4f"),
    "latency_p50_s": ("latency p50, seconds", ".3f"),
    "latency_p95_s": ("latency p95, seconds", ".3f"),
}
_SELECTION = (
    "only sampled requests that both models completed are replayed: none that a caller demanded of the teacher, none that the student was not trained for, "
    "and none that a model failed on"
)


def rehearse(
    mode: Annotated[str, typer.Argument(help="The mode to try: teacher, student or cascade.", metavar="{teacher|student|cascade}")],
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Another threshold of the cascade. Its band is added, as when it is live.")
    ] = None,
    since: Annotated[str, typer.Option("--since", help="How far back: a number with m, h or d.")] = "7d",
    as_json: Json = False,
) -> None:
    """Say what another mode or threshold would have done with logged traffic, against the mode that is live now. Nothing is changed.

    The router asks the other model beside a share of the requests (serve.shadow_share), and logs how far both completions are apart, without their text.
    These comparisons are replayed under both rules: quality, share of the student, cost and latency, each with its 95 % interval, and the paired difference.

    Example: [bold]redistill route rehearse cascade --threshold -0.5 --since 3d[/bold]
    """
    from redistill.params import load_params

    if mode not in ("teacher", "student", "cascade"):
        raise ConfigError(f"mode {mode!r} is unknown; rehearse teacher, student or cascade")
    done = application("tasks.serving.rehearse").rehearse(load_params(), mode, threshold, since)
    summary = {
        "version": done.version,
        "comparisons": done.result.n,
        "now": dataclasses.asdict(done.now),
        "then": dataclasses.asdict(done.then),
        "measures": {name: dataclasses.asdict(change) for name, change in done.result.measures.items()},
        "slices": {
            name: {m: dataclasses.asdict(change) for m, change in measures.items()} for name, measures in done.result.slices.items()
        },
        "left_out": done.selection.left_out,
        "max_disagreement": done.promised,
        "more_comparisons_needed": done.missing,
        "rollout": done.rollout,
        "selection": _SELECTION,
    }
    show(_without_nan(summary), as_json, _lines(done))


def _lines(done: Any) -> list[str]:
    rule = f"{done.then.score_name} above {done.then.limit:.4g}" if done.then.mode == "cascade" else "no threshold"
    lines = [f"{done.result.n:,} comparisons of version {done.version}: {_mode(done.now)} now, {_mode(done.then)} rehearsed ({rule})"]
    lines += [done.rollout] if done.rollout else []
    lines.append(f"{'':<34}{'now':>26}{'rehearsed':>26}{'difference':>26}")
    lines += _table(done.result.measures)
    for name, measures in done.result.slices.items():
        lines += [f"slice {name or '(none)'}:", *_table(measures)]
    lines.append(_promise(done))
    lines += [f"left out: {count:,} {why}" for why, count in done.selection.left_out.items()]
    return [*lines, f"selection: {_SELECTION}"]


def _mode(rule: Any) -> str:
    return str(rule.mode) if rule.mode == "teacher" or rule.share == 1.0 else f"{rule.mode} for {rule.share:.0%} of the keys"


def _table(measures: dict[str, Any]) -> list[str]:
    from redistill.serving.rehearsal import interval_text

    rows = []
    for name, (label, form) in _NAMES.items():
        if (change := measures.get(name)) is not None:
            cells = (interval_text(score, form) for score in (change.now, change.then, change.difference))
            rows.append(f"  {label:<32}" + "".join(f"{cell:>26}" for cell in cells))
    return rows


def _promise(done: Any) -> str:
    limit = f"a disagreement of at most {done.promised:.1%} (route.max_disagreement)"
    if done.missing is None:
        return f"the rehearsed mode does not keep {limit}"
    return f"the comparisons show {limit}" if done.missing == 0 else f"about {done.missing:,} more comparisons are needed to show {limit}"


def _without_nan(tree: Any) -> Any:
    """JSON has no NaN: the limit of a mode without threshold is null."""
    if isinstance(tree, dict):
        return {key: _without_nan(value) for key, value in tree.items()}
    return None if isinstance(tree, float) and tree != tree else tree
