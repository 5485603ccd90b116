"""The page about live traffic: ``artifacts/traffic/report.html``, and the same as JSON."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from redistill.io.atomic import replacing
from redistill.io.json import write_json
from redistill.params import Params
from redistill.serving.drift.types import Live, Measure, Reference, Window
from tasks.paths import ARTIFACTS
from tasks.results.rows import shown_rows

PAGE = ARTIFACTS / "traffic"
_LABELS = 12
_PERCENT = ("disagreement", "deferred", "failed")


def write_page(params: Params, version: str, sentence: str, windows: Sequence[Window], reference: Reference, live: Live) -> None:
    """Write ``report.json`` and ``report.html``. They hold no text of a request."""
    from redistill.report.traffic import render_traffic

    rows = shown_rows(params.data)
    tree = {
        "schema": 1,
        "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "data_name": params.data.name,
        "version": version,
        "verdict": windows[-1].verdict,
        "sentence": sentence,
        "reference": {"split": rows.split, "rows": len(reference.texts)},
        "windows": [_plain(window) for window in windows],
        "scores": {"live": list(live.scores), "reference": list(reference.scores)},
        "labels": _shares(reference.labels, live.labels),
        "reasons": live.reasons,
        "notes": list(live.notes),
    }
    PAGE.mkdir(parents=True, exist_ok=True)
    write_json(PAGE / "report.json", tree)
    with replacing(PAGE / "report.html") as temporary:
        temporary.write_text(render_traffic(json.loads(json.dumps(tree))), encoding="utf-8")


def table_of(window: Window) -> list[dict[str, str]]:
    """The measures for Prefect's page."""
    return [
        {
            "measure": m.name,
            "value": _number(m, m.value),
            "by chance": f"{_number(m, m.by_chance.low)} to {_number(m, m.by_chance.high)}" if m.by_chance else "–",
            "live rows": f"{m.rows:,}",
            "reference rows": f"{m.reference_rows:,}",
            "result": m.unjudged or ("beyond its limit" if m.large else "raised" if m.raised else "as by chance"),
        }
        for m in window.measures
    ]


def _number(measure: Measure, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if measure.name in _PERCENT else f"{value:.3f}"


def _plain(window: Window) -> dict[str, Any]:
    times = {key: dt.datetime.fromtimestamp(getattr(window, key), dt.UTC).isoformat(timespec="seconds") for key in ("begin", "end")}
    return {**asdict(window), **times}


def _shares(reference: Sequence[str], live: Sequence[str]) -> list[dict[str, Any]]:
    """The most frequent labels, with their share on both sides, the largest difference first."""
    if not reference or not live:
        return []
    old, new = Counter(reference), Counter(live)
    names = [name for name, _ in (old + new).most_common(_LABELS)]
    rows = [{"label": name or "(none)", "live": new[name] / len(live), "reference": old[name] / len(reference)} for name in names]
    return sorted(rows, key=lambda row: -abs(float(str(row["live"])) - float(str(row["reference"]))))
