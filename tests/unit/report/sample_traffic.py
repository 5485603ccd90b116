"""A tree of the page about live traffic, as the monitor writes it."""

from __future__ import annotations

import random
from typing import Any


def measure(
    name: str, value: float | None, high: float, *, raised: bool = False, large: bool = False, unjudged: str = ""
) -> dict[str, Any]:
    bounds = None if unjudged else {"low": 0.4 if name == "prompts" else 0.0, "high": high}
    return {
        "name": name, "rows": 190, "reference_rows": 270, "limit": 0.1, "value": value, "by_chance": bounds, "interval": None, "excess": 0.0,
        "p_value": 0.3, "raised": raised, "large": large, "unjudged": unjudged,
    }  # fmt: skip


def sample_traffic(windows: int = 8, drift_from: int = 5) -> dict[str, Any]:
    """A drift of the prompts from one window on."""
    draw, made = random.Random(3), []
    for n in range(windows):
        drifted = n >= drift_from
        auc = (0.68 if drifted else 0.5) + draw.uniform(-0.03, 0.03)
        measures = [
            measure("prompts", auc, 0.57, raised=drifted, large=drifted),
            measure("length", 0.04, 0.09),
            measure("language", None, 0.0, unjudged="all rows are alike, live and reference"),
            measure("slices", 0.02, 0.05),
            measure("labels", 0.2 if drifted else 0.05, 0.14, raised=drifted),
            measure("scores", 0.1, 0.13),
            measure("disagreement", None, 0.0, unjudged="12 live rows; 100 are needed"),
            measure("deferred", 0.31, 0.38),
            measure("failed", 0.01, 0.03),
        ]
        end = f"2026-11-{20 + n // 6:02}T{(4 * n) % 24:02}:45:00+00:00"
        answered = {"student": 130 - 10 * drifted, "teacher": 70 + 10 * drifted}
        verdict = "calm" if n < drift_from + 2 else "warn"
        made.append(
            {"begin": end, "end": end, "requests": 200, "measures": measures, "at_risk": drifted, "answered": answered, "verdict": verdict}
        )
    return {
        "schema": 1,
        "created_at": "2026-11-21T05:00:00+00:00",
        "data_name": "bank-triage",
        "version": "7",
        "verdict": made[-1]["verdict"],
        "sentence": "warn: prompts 0.68 (0.43 to 0.57 by chance) in 200 requests",
        "reference": {"split": "monitor", "rows": 270},
        "windows": made,
        "scores": {"live": [draw.gauss(-1.4, 1.0) for _ in range(190)], "reference": [draw.gauss(-1.0, 0.8) for _ in range(270)]},
        "labels": [
            {"label": "<b>refund</b>", "live": 0.05, "reference": 0.2},
            {"label": "fee; card_lost; a long one", "live": 0.3, "reference": 0.22},
        ],
        "reasons": {"sure": 120, "unsure": 60, "malformed": 20},
        "notes": ["3 requests with personal data are not compared as texts"],
    }
