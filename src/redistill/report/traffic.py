"""The page about live traffic: the verdict, what each measure says, and how both changed over the windows. It shows a JSON tree and judges nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from redistill.report.formats import DASH, finite, number, percent
from redistill.report.templates import environment
from redistill.report.timeline import Moment, timeline
from redistill.report.two_samples import histograms, shares

_SHOWN = 40
"""Rows of the table of windows; the plots show all."""
TITLES = {
    "prompts": ("Prompts", "AUC of a classifier that tells live from reference prompts; 0.5 is no difference"),
    "length": ("Length", "stability index of the texts' length"),
    "language": ("Language", "stability index of the detected languages"),
    "slices": ("Slices", "stability index of the requests' slices"),
    "labels": ("Predicted labels", "stability index of what the student writes"),
    "scores": ("Scores", "largest distance of the distributions of the student's scores"),
    "disagreement": ("Disagreement", "with the teacher, over all sampled requests; the range is what was promised"),
    "deferred": ("Deferred", "share of the requests that the student was not sure of"),
    "failed": ("Failed", "share of the student's requests that failed or could not be used"),
}
_SHARES = ("disagreement", "deferred", "failed")


def render_traffic(tree: Mapping[str, Any]) -> str:
    """The whole page. Parts that a window does not have are left out."""
    windows = list(tree.get("windows") or ())
    last = windows[-1] if windows else {}
    return (
        environment()
        .get_template("traffic.html.j2")
        .render(
            {**tree, "windows": windows[::-1][:_SHOWN]},
            total=len(windows),
            last=last,
            measures=[_row(m) for m in last.get("measures") or ()],
            plots=plots_of(tree),
            raised_in=_raised,
        )
    )


def plots_of(tree: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Plots with title and note, as far as there is something to draw."""
    windows: Sequence[Mapping[str, Any]] = tree.get("windows") or ()
    scores, labels = tree.get("scores") or {}, tree.get("labels") or ()
    drawn: list[tuple[str, Markup | None, str]] = [
        (
            "Prompts",
            _auc(windows),
            "The AUC of each window, and the upper end of its range without drift. A window above that end differs from the reference.",
        ),
        ("Who answered", _routes(windows), "Share of the requests of each window."),
    ]
    if scores.get("live") and scores.get("reference"):
        plot = histograms("Rows, %", "Score", scores["reference"], scores["live"])
        drawn.append(
            ("Scores", plot, "Filled: the student's scores in the last window. Line: on the reference rows. Further right is surer.")
        )
    if labels:
        rows = [(str(row["label"]), 100 * row["reference"], 100 * row["live"]) for row in labels]
        drawn.append(
            (
                "Predicted labels",
                shares("Share of the rows", rows),
                "Bars: the last window. Upright lines: the reference rows. The largest difference is first.",
            )
        )
    return [{"title": title, "plot": plot, "note": note} for title, plot, note in drawn if plot is not None]


def _auc(windows: Sequence[Mapping[str, Any]]) -> Markup | None:
    live, chance = [], []
    for window in windows:
        for measure in window.get("measures") or ():
            value, bounds = finite(measure.get("value")), measure.get("by_chance") or {}
            if measure.get("name") == "prompts" and value is not None and finite(bounds.get("high")) is not None:
                live.append(Moment(_end(window), value))
                chance.append(Moment(_end(window), float(bounds["high"])))
    return (
        timeline("AUC", {"student": live, "by chance": chance}, [], span=(0.5,), ceiling=1.0, named={"student": "live"}, each="window")
        if live
        else None
    )


def _routes(windows: Sequence[Mapping[str, Any]]) -> Markup | None:
    series: dict[str, list[Moment]] = {}
    for name in ("student", "teacher", "nobody"):
        counts = [(window, (window.get("answered") or {}).get(name, 0)) for window in windows if window.get("requests")]
        if any(count for _, count in counts):
            series[name] = [Moment(_end(window), 100.0 * count / window["requests"]) for window, count in counts]
    return timeline("Requests, %", series, [], span=(0.0, 100.0), ceiling=100.0, each="window") if series else None


def _row(measure: Mapping[str, Any]) -> dict[str, str]:
    """One line of the table, as text."""
    name = str(measure.get("name"))
    title, meaning = TITLES.get(name, (name, ""))
    form = percent if name in _SHARES else lambda value: number(value, digits=3)
    bounds = measure.get("by_chance") or {}
    span = f"{form(bounds.get('low'))} to {form(bounds.get('high'))}" if bounds else DASH
    if why := measure.get("unjudged"):
        result, kind = f"not judged: {why}", "muted"
    elif measure.get("large"):
        result, kind = "raised, and beyond its limit", "fail"
    else:
        result, kind = ("raised", "fail") if measure.get("raised") else ("as without drift", "pass")
    rows = f"{number(measure.get('rows'), digits=0)} / {number(measure.get('reference_rows'), digits=0)}"
    return {
        "title": title,
        "meaning": meaning,
        "value": form(measure.get("value")),
        "span": span,
        "rows": rows,
        "result": result,
        "kind": kind,
    }


def _raised(window: Mapping[str, Any]) -> str:
    """The raised measures of a window, in words."""
    names = [TITLES.get(str(m.get("name")), (str(m.get("name")), ""))[0].lower() for m in window.get("measures") or () if m.get("raised")]
    return ", ".join(names) or "nothing"


def _end(window: Mapping[str, Any]) -> dt.datetime:
    return dt.datetime.fromisoformat(str(window["end"]))
