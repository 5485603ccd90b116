"""The cascade's section of the page: its plots and tables from the part ``cascade`` of ``report.json``."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from redistill.report.formats import finite
from redistill.report.plots import Point, paths


def cascade_of(tree: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the template shows; None if no arm was calibrated."""
    if not tree or not tree.get("calibrations"):
        return None
    candidate = str(tree.get("candidate"))
    return {
        **tree,
        "chosen": (tree["calibrations"].get(candidate) or {}),
        "plane": _plane(tree, candidate),
        "risk": _risk(tree, candidate),
    }


def _role(name: str, candidate: str) -> str:
    return "teacher" if name == "teacher" else "student" if name.split(" ")[0] == candidate else "other"


def _plane(tree: dict[str, Any], candidate: str) -> Markup | None:
    """Exact match against the expected time of a request: a line over all thresholds for each arm, and every system as a point with its interval."""
    series = {}
    for arm, rows in (tree.get("plane") or {}).items():
        line = [_numbers(row.get("request_time"), row.get("quality")) for row in rows or ()]
        series[arm] = [(pair[0], 100 * pair[1]) for pair in line if pair is not None]
    series = {arm: line for arm, line in series.items() if line}
    points = [point for row in tree.get("systems") or () if (point := _point(row, candidate)) is not None]
    if not series or not points:
        return None
    return paths("Quality, %", "Expected time of a request (teacher = 1)", series, points, lambda name: _role(name, candidate))


def _point(row: dict[str, Any], candidate: str) -> Point | None:
    score = row.get("exact_match") or {}
    interval = score.get("interval") or {}
    values = _numbers(score.get("value"), interval.get("low"), interval.get("high"), (row.get("request_time") or {}).get("value"))
    if values is None:
        return None
    y, low, high, x = values
    return Point(str(row.get("name")), _role(str(row.get("name")), candidate), 100 * y, 100 * low, 100 * high, x)


def _risk(tree: dict[str, Any], candidate: str) -> Markup | None:
    """Disagreement with the teacher against the share that the student answers, on the calibration rows, with the limit."""
    series, points, limit = {}, [], None
    for arm, calibration in (tree.get("calibrations") or {}).items():
        for curve in (calibration or {}).get("curves") or ():
            pairs = [_numbers(*pair) for pair in curve.get("points") or () if isinstance(pair, list | tuple) and len(pair) == 2]
            rows = [(100 * pair[0], 100 * pair[1]) for pair in pairs if pair is not None]
            if not rows:
                continue
            series[arm] = [(0.0, 0.0), *rows]
            level, answered = finite(calibration.get("limit")), finite(curve.get("answered"))
            limit = limit if level is None else 100 * level
            if answered is not None:
                x, y = min(rows, key=lambda row: abs(row[0] - 100 * answered))
                points.append(Point(f"{arm}, threshold", _role(arm, candidate), y, y, y, x))
    if not series:
        return None
    return paths(
        "Disagreement, % of all requests", "Answered by the student, %", series, points, lambda name: _role(name, candidate), limit
    )


def _numbers(*values: Any) -> list[float] | None:
    """The values as numbers; None if one of them is not a finite number."""
    numbers = [finite(value) for value in values]
    return None if any(value is None for value in numbers) else [value for value in numbers if value is not None]
