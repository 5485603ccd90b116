"""``redistill estimate``: what a cycle takes, before it runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from redistill.cli.project import Json, application, show
from redistill.errors import ConfigError


def estimate(
    rows: Annotated[
        int | None,
        typer.Option(
            "--rows",
            min=1,
            help="Of a cycle with so many completions, extrapolated from the rates of the last cycle here.",
            show_default=False,
        ),
    ] = None,
    replicas: Annotated[int, typer.Option("--replicas", min=1, help="With --rows: machines like this one that run the teacher.")] = 1,
    as_json: Json = False,
) -> None:
    """Estimate a cycle that reuses no results, before it runs: teacher tokens, hours, money, disk, and the break-even volume."""
    if rows is not None:
        result = application("tasks.reporting.extrapolation").extrapolate(_params(), rows, replicas)
        show(result, as_json, _extrapolated(result))
        return
    if replicas != 1:
        raise ConfigError("--replicas needs --rows")
    result = application("tasks.reporting.economics").estimate(_params())
    pays, disk, usd = result["break_even"], result["disk_bytes"], result["usd"]
    measured, stages = len(result["measured"]), len(result["seconds"])
    basis = "as measured here" if measured == stages else f"{measured} of {stages} stages as measured here, the others by assumed rates"
    lines = [
        f"teacher   {result['rows_to_ask']:,} completions: about {result['teacher_prompt_tokens']:,} prompt and {result['teacher_completion_tokens']:,} completion tokens",
        *_teacher_only(result, _params()),
        f"time      {result['hours']:.2f} hours ({basis})",
        "money     " + ("unknown: set economics.machine_usd_per_hour" if usd is None else f"{usd:.2f} USD a cycle"),
        "disk      " + ("unknown" if disk is None else f"{disk / 1e9:.1f} GB"),
    ]
    if pays is None:
        lines.append(f"pays      unknown: {result['why_no_break_even']}")
    else:
        lines += _pays(pays, result["month"], _params().economics.requests_per_month)
    show(result, as_json, lines)


def _teacher_only(result: dict[str, Any], params: Any) -> list[str]:
    """What a student saves because it does not read the teacher's own prompt; nothing where the teacher has none."""
    tokens, usd, requests = result["teacher_only_tokens"], result["teacher_only_usd_per_month"], params.economics.requests_per_month
    if not tokens:
        return []
    price = f"{usd:,.2f} USD" if usd is not None else "set teacher.usd_per_million_prompt_tokens for their price"
    if params.teacher.backend != "openai":
        price = "paid with the teacher's time, which the stage timing measures"
    return [
        f"prompt    about {tokens:,} tokens a request that only the teacher reads; at {requests:,} requests a month {tokens * requests:,}: {price}"
    ]


def _pays(pays: dict[str, Any], month: dict[str, Any], requests: int) -> list[str]:
    """The cost of a month and the break-even volume of a student, with the intervals that follow from the time ratio."""

    def volume(count: int | None) -> str:
        return "never" if count is None else f"{count:,}"

    low, high = (volume(count) for count in pays["requests_per_month_interval"])
    saving, interval = pays["saving_usd_per_month"], pays["saving_usd_per_month_interval"]
    return [
        f"month     whole cycles {month['changes']}, nights without a change {month['quiet_nights']}: {pays['month_usd']:.2f} USD",
        f"pays      from {volume(pays['requests_per_month'])} requests a month ({low} to {high}); at the {requests:,} of params.yaml "
        f"{saving:+,.2f} USD a month ({interval['low']:+,.2f} to {interval['high']:+,.2f}): {pays['verdict']}",
    ]


def _extrapolated(result: dict[str, Any]) -> list[str]:
    """What follows from measurements, and by how much they were stretched."""
    seconds, replicas = result["seconds"], result["replicas"]
    by_rows, rates = result["extrapolated"], result["from_a_rate"]
    with_start = [stage for stage in by_rows if stage not in rates]
    rest = sum(s for stage, s in seconds.items() if stage not in by_rows)
    usd = [
        f"{result[key]:,.2f} USD {what}"
        for key, what in (("machine_usd", "for machines"), ("tokens_usd", "for the endpoint"))
        if result[key]
    ]
    return [
        f"rows      {result['rows']:,} completions, {result['factor']:,.0f} times the {result['measured_rows']:,} of the last cycle here; the teacher on "
        + ("this machine" if replicas == 1 else f"{replicas:,} machines like this one"),
        f"time      {result['hours']:,.2f} hours, {result['machine_hours']:,.2f} of machines: "
        + ", ".join(f"{stage} {'' if stage in rates else 'at most '}{seconds[stage] / 3600:,.2f}" for stage in by_rows)
        + f", all other stages {rest / 3600:,.2f} as measured",
        f"disk      {result['disk_bytes'] / 1e9:,.1f} GB: "
        + ", ".join(f"{name} {size / 1e9:,.2f}" for name, size in result["bytes"].items())
        + "; the rest is DVC's cache",
        "money     " + (" and ".join(usd) or "unknown: set economics.machine_usd_per_hour, or an endpoint's prices"),
        "basis     in proportion to the rows"
        + (f"; from a rate without the start: {', '.join(rates)}" if rates else "")
        + (f"; the start counted too: {', '.join(with_start)}" if with_start else "")
        + (f"; that {replicas:,} replicas are {replicas:,} times as fast is an assumption" if replicas > 1 else ""),
        "          training keeps its budget (finetune.common.tokens); raise it if the student should learn from more rows",
    ]


def _params() -> Any:
    from redistill.params import load_params

    return load_params()
