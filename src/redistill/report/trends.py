"""Trends over nights: quality, share, duration, cost, rows asked and disk, as plots and a table, in the report and on a page of their own.

Both read the summaries of cycles as JSON trees, so that they also show what an earlier version of redistill wrote, as far as it goes.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from redistill.report.templates import environment
from redistill.report.timeline import Moment, timeline

_METRICS = {"exact_match": "Exact match", "row_f1": "F1", "chrf": "chrF"}
_BYTES_PER_MB = 1e6
_SHOWN = 60
"""Rows of the table; the plots show all nights."""


def render_trends(data_name: str, nights: Sequence[Mapping[str, Any]], pages: Sequence[str | None]) -> str:
    """The page of its own. ``pages`` are the addresses of the nights' runs, in the same order, where they have any."""
    rows = [{**night, "page": page} for night, page in zip(nights, pages, strict=True)]
    return (
        environment()
        .get_template("trends.html.j2")
        .render(data_name=data_name, nights=rows[::-1][:_SHOWN], total=len(rows), trends=trends_of(nights))
    )


def trends_of(nights: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The plots, each with a title and a note; a quantity that no night has is left out, and everything below two nights."""
    if len(nights) < 2:
        return []
    metric = next((str(n["metric"]) for n in reversed(nights) if n.get("metric")), "exact_match")
    whole = [n for n in nights if n.get("ran")]
    plots = [
        _plot(
            f"{_METRICS.get(metric, metric)}, %",
            nights,
            {who: functools.partial(_quality, who) for who in ("student", "teacher")},
            100.0,
            ceiling=100.0,
        ),
        _plot("Requests to the student, %", nights, {"student": _number("student_share")}, 100.0, span=(0.0, 100.0)),
        _plot("Minutes", nights, {"cycle": _number("seconds")}, 1 / 60),
        _plot("USD", nights, {"cycle": _number("usd")}, 1.0),
        _plot("Rows asked of the teacher", nights, {"asked": lambda n: _number("asked_rows")(n.get("use") or {})}, 1.0),
        _plot("Disk, MB", nights, {"disk": _number("disk_bytes")}, 1 / _BYTES_PER_MB),
    ]
    titles = ("Quality", "Share", "Duration", "Cost", "Teacher", "Disk")
    notes = (
        "Student and teacher on the rows that people look at, with 95 % intervals.",
        "What the route allowed after the cycle.",
        f"Quiet nights included; {len(whole)} of {len(nights)} had something to do.",
        "Machine time at its price, and the teacher's tokens.",
        "Rows that the completion store had are not asked again.",
        "Artifacts, DVC's cache, completions, and the project's own registry. The command redistill gc frees what nothing needs.",
    )
    return [
        {"title": title, "plot": plot, "note": note} for title, plot, note in zip(titles, plots, notes, strict=True) if plot is not None
    ]


def _plot(
    title: str,
    nights: Sequence[Mapping[str, Any]],
    of: Mapping[str, Callable[[Mapping[str, Any]], tuple[float | None, float | None, float | None]]],
    scale: float,
    *,
    span: Sequence[float] = (),
    ceiling: float = math.inf,
) -> Markup | None:
    series: dict[str, list[Moment]] = {}
    for name, read in of.items():
        for night in nights:
            value, low, high = read(night)
            if value is not None:
                bounds = (None if low is None else scale * low, None if high is None else scale * high)
                series.setdefault(name, []).append(Moment(_time(night), scale * value, *bounds))
    failed = [_time(night) for night in nights if night.get("status") != "completed"]
    return timeline(title, series, failed, span, ceiling) if series else None


def _quality(who: str, night: Mapping[str, Any]) -> tuple[float | None, float | None, float | None]:
    quality = night.get(who) or {}
    return quality.get("value"), quality.get("low"), quality.get("high")


def _number(key: str) -> Callable[[Mapping[str, Any]], tuple[float | None, None, None]]:
    return lambda night: (night.get(key), None, None)


def _time(night: Mapping[str, Any]) -> dt.datetime:
    return dt.datetime.fromisoformat(str(night["started_at"]))
