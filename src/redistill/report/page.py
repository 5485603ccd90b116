"""The page of a cycle: the tree of ``report.json`` as one HTML file that opens offline.

The page only shows the tree: verdict, gates and intervals come from other modules. Parts that a cycle does not have
(a linear arm, an endpoint's parameters, curves) are left out or shown as a dash. The template is
``page.html.j2``, and the style ``style.css``. It escapes everything, and does not let the browser load anything or run scripts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any

from markupsafe import Markup

from redistill.evaluation.row_scores import NAMES
from redistill.report.cascade_view import cascade_of
from redistill.report.formats import DASH, finite, gate_title, number
from redistill.report.plots import Bound, Point, bounds, curves, forest, reliability, scatter, volume
from redistill.report.templates import environment
from redistill.report.trends import trends_of

_QUARANTINED = 8
_CURVES = {"loss": "Training loss", "kl_nats_per_token": "KL to the teacher, nats per token"}
_METRICS = {"exact_match": "Exact match", "f1": "F1"}
_UNITS = {
    "points": (100.0, 1, " points", ">"),
    "share": (100.0, 1, "\u00a0%", ">"),
    "ratio": (1.0, 2, "", "<"),
    "rows": (1.0, 0, "", "≤"),
    "looks": (1.0, 0, "", "≤"),
}
"""Of a gate's unit: scale, digits, what follows the number, and on which side of the limit it must lie."""


def render(report: dict[str, Any]) -> str:
    """The whole page.

    An incomplete tree must not end a long cycle without a report, so a missing or invalid number is shown as a dash.
    """
    arms: dict[str, Any] = report.get("arms") or {}
    candidate = str(report.get("candidate"))
    governance = report.get("governance") or {}
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            {**report, "arms": arms, "governance": governance},
            student=arms.get(candidate) or {},
            teacher=arms.get("teacher") or {},
            roles={name: role(name, candidate) for name in arms},
            gates=[gate(g) for g in (report.get("decision") or {}).get("gates") or ()],
            on_monitor=[gate(g) for g in (_on_monitor(report) or {}).get("gates") or ()],
            rows_are="monitor" if report.get("measured_on") == "monitor" else "held-out",
            gate_plots=gate_plots_of(_on_monitor(report) or report.get("decision") or {}),
            looks=looks_of(report),
            pair_kinds=list(dict.fromkeys(k for arm in arms.values() for k in (arm.get("fairness") or {}).get("kinds") or {})),
            benchmarks=_names(arms, "breadth"),
            fields=_names(arms, "fields"),
            held_to_form=any(arm.get("malformed_freely") is not None for arm in arms.values()),
            slices=_names(arms, "slices"),
            forests=forests_of(arms, candidate),
            scatters=[
                scatter_of(arms, candidate, "latency_p50_s", 1e3, "Latency at the median, ms"),
                scatter_of(arms, candidate, "parameters", 1e-6, "Parameters, millions"),
                scatter_of(priced(arms, report.get("economics") or {}), candidate, "usd_per_1000", 1.0, "USD for 1,000 requests"),
            ],
            depths=depths_of(report.get("sweep") or []),
            curves=[c for key in _CURVES if (c := curves_of(report.get("training") or {}, candidate, key))],
            calibrated=calibrated_of(arms, candidate),
            cascade_view=cascade_of(report.get("cascade")),
            alone=[gate(g) for g in _alone(_on_monitor(report) or report.get("decision") or {})],
            break_even=break_even_of(report.get("economics") or {}),
            trends=trends_of(report.get("nights") or ()),
            quarantined=varied(governance.get("sample") or (), _QUARANTINED),
        )
    )


def _on_monitor(report: dict[str, Any]) -> dict[str, Any] | None:
    """The same question on the rows that people look at, if held-out rows are sealed."""
    decision: dict[str, Any] | None = (report.get("judgement") or {}).get("on_monitor")
    return decision


def _alone(decision: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """The gates of the student alone, where it was judged after a cascade and the page is about the cascade."""
    if decision.get("mode") != "cascade":
        return ()
    return next((step["gates"] for step in decision.get("steps") or () if step.get("mode") == "student"), ())


def gate(tree: dict[str, Any]) -> dict[str, Any]:
    """A gate's numbers in its own unit, and its name as people say it."""
    scale, digits, unit, relation = _UNITS.get(str(tree.get("unit")), (1.0, 2, "", ""))
    interval, confidence = tree.get("interval"), finite(tree.get("confidence"))
    spread = DASH
    if interval:
        spread = f"{number(interval.get('low'), scale, digits)} to {number(interval.get('high'), scale, digits)}{unit}"
        spread += f" ({number(confidence, 100)}\u00a0%)" if confidence is not None else ""
    return {
        "title": gate_title(str(tree.get("name"))),
        "result": tree.get("result"),
        "value": number(tree.get("value"), scale, digits, unit),
        "limit": f"{relation}\u00a0{number(tree.get('limit'), scale, digits, unit)}",
        "interval": spread,
        "sentence": tree.get("sentence"),
    }


def gate_plots_of(decision: dict[str, Any]) -> list[dict[str, Any]]:
    """The statistical gates of a decision, a plot for each unit that they have."""
    metric = NAMES.get(decision.get("metric") or "exact_match", "the metric")
    titles = {"points": f"Difference of {metric}, points", "share": "Recall, %"}
    return [plot for unit, title in titles.items() if (plot := bounds_of(decision.get("gates") or (), unit, title))]


def bounds_of(gates: Sequence[dict[str, Any]], unit: str, title: str) -> dict[str, Any] | None:
    """The statistical gates of one unit as a plot; None where there are none."""
    rows = []
    for tree in gates:
        interval = tree.get("interval") or {}
        numbers = [finite(v) for v in (tree.get("value"), interval.get("low"), interval.get("high"), tree.get("limit"))]
        if tree.get("unit") == unit and all(v is not None for v in numbers):
            name = gate_title(str(tree.get("name")))
            value, low, high, limit = (100 * v for v in numbers if v is not None)
            rows.append(Bound(name, str(tree.get("result")), value, low, high, limit))
    return {"title": title, "plot": bounds(title, rows)} if rows else None


def priced(arms: dict[str, Any], economics: dict[str, Any]) -> dict[str, Any]:
    """The arms with what 1,000 requests cost, where that is known."""
    usd = economics.get("usd_per_1000_requests") or {}
    return {name: {**arm, "cost": {**(arm.get("cost") or {}), "usd_per_1000": usd.get(name)}} for name, arm in arms.items()}


def calibrated_of(arms: dict[str, Any], candidate: str) -> dict[str, Any] | None:
    """The reliability of student and teacher; None if neither reports its confidence."""
    series, errors = {}, {}
    for name in ("teacher", candidate):
        calibration = (arms.get(name) or {}).get("calibration") or {}
        rows = [
            (100 * x, 100 * y)
            for b in calibration.get("bins") or ()
            if (x := finite(b.get("confidence"))) is not None and (y := finite(b.get("accuracy"))) is not None
        ]
        if rows and all(0 <= v <= 100 for row in rows for v in row):
            series[name], errors[name] = rows, calibration
    return {"plot": reliability("Reliability", series, lambda name: role(name, candidate)), "errors": errors} if series else None


def break_even_of(economics: dict[str, Any]) -> Markup | None:
    """USD a month against volume; None where something has no price."""
    pays = economics.get("break_even") or {}
    interval = pays.get("saving_usd_per_request_interval") or {}
    numbers = [finite(v) for v in (pays.get("saving_usd_per_request"), interval.get("low"), interval.get("high"))]
    fixed, volume_now = finite(pays.get("month_usd")), finite(economics.get("requests_per_month"))
    if any(v is None for v in numbers) or fixed is None or volume_now is None or volume_now <= 0 or fixed <= 0:
        return None
    saving, low, high = (v for v in numbers if v is not None)
    if not all(math.isfinite(v) for v in (low * volume_now * 2, high * volume_now * 2, fixed / saving if saving > 0 else 0.0)):
        return None
    return volume("Saved a month", saving, (low, high), fixed, volume_now)


def looks_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The ledger of looks at this held-out set, as the decision left it."""
    return list((report.get("judgement") or {}).get("looks") or ())


def role(name: str, candidate: str) -> str:
    """What an arm is on this page; a CSS class."""
    return "student" if name == candidate else "teacher" if name == "teacher" else "other"


def forests_of(arms: dict[str, Any], candidate: str) -> dict[str, Markup]:
    """The forest plots by title, on one scale; metrics that no arm has are left out."""
    points = {title: [p for name, arm in arms.items() if (p := _point(name, arm, candidate, metric))] for metric, title in _METRICS.items()}
    span = [v for ps in points.values() for p in ps for v in (p.low, p.high)]
    return {title: forest(title, ps, span) for title, ps in points.items() if ps}


def scatter_of(arms: dict[str, Any], candidate: str, cost: str, scale: float, title: str) -> dict[str, Any]:
    """Exact match against a cost, with the names of the arms whose cost is unknown."""
    points = [p for name, arm in arms.items() if (p := _point(name, arm, candidate, "exact_match", cost, scale))]
    left_out = [name for name in arms if name not in {p.name for p in points}]
    return {"plot": scatter("Exact match, %", title, points) if points else None, "left_out": left_out}


def depths_of(sweep: list[dict[str, Any]]) -> Markup | None:
    """F1 on dev against size: students of other depths, and the teacher; None where no depth was swept."""

    def point(name: str, role: str, row: dict[str, Any]) -> Point | None:
        found = [finite(row.get(key)) for key in ("f1", "f1_low", "f1_high", "parameters")]
        if any(v is None for v in found):
            return None
        y, low, high, parameters = (float(v) for v in found if v is not None)
        return Point(name, role, 100 * y, 100 * low, 100 * high, parameters / 1e6)

    rows = [
        point("teacher", "teacher", row) if row.get("point") == "teacher" else point(f"{row.get('layers')} layers", "student", row)
        for row in sweep
    ]
    points = [p for p in rows if p is not None]
    return scatter("F1 on dev, %", "Parameters, millions", points) if points else None


def curves_of(training: dict[str, Any], candidate: str, key: str) -> Markup | None:
    """The curves of the arms that logged a key at two steps or more; None where there are none."""
    series = {
        arm: [(float(r["step"]), float(r[key])) for r in rows if finite(r.get("step")) is not None and finite(r.get(key)) is not None]
        for arm, rows in training.items()
    }
    series = {arm: rows for arm, rows in series.items() if len(rows) > 1 and (key == "loss" or any(v for _, v in rows))}
    return curves(_CURVES[key], series, lambda name: role(name, candidate)) if series else None


def varied(rows: Sequence[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """A few rows of each filter first, then more."""
    by_filter: dict[tuple[Any, Any], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_filter[row.get("stage"), row.get("filter")].append(row)
    return [row for row in chain.from_iterable(zip_longest(*by_filter.values())) if row is not None][:limit]


def _names(arms: dict[str, Any], part: str) -> list[str]:
    return list(dict.fromkeys(name for arm in arms.values() for name in arm.get(part) or {}))


def _point(name: str, arm: dict[str, Any], candidate: str, metric: str, cost: str | None = None, scale: float = 1.0) -> Point | None:
    score = arm.get(metric) or {}
    interval = score.get("interval") or {}
    values = [finite(v) for v in (score.get("value"), interval.get("low"), interval.get("high"))]
    x = finite((arm.get("cost") or {}).get(cost)) if cost else 0.0
    if x is None or any(v is None for v in values):
        return None
    y, low, high = (100 * v for v in values if v is not None)
    return Point(name, role(name, candidate), y, low, high, x * scale)
