"""Trends: every quantity that a night has is drawn, a failed night is visible, and an old or broken summary is no reason to fail."""

from __future__ import annotations

import re
from typing import Any

import pytest

from redistill.report.page import render
from redistill.report.trends import render_trends, trends_of
from tests.unit.report.sample_report import sample_tree


def night(day: int, **changes: Any) -> dict[str, Any]:
    return {
        "cycle": f"bank-202611{day:02}",
        "started_at": f"2026-11-{day:02} 02:00:00+00:00",
        "status": "completed",
        "ran": 3,
        "seconds": 600.0 + day,
        "sentence": f"hold: version {day}",
        "student_share": 0.0,
        "metric": "exact_match",
        "student": {"value": 0.44, "low": 0.40, "high": 0.48},
        "teacher": {"value": 0.51, "low": 0.47, "high": 0.55},
        "usd": 0.2,
        "use": {"asked_rows": 165, "asked_tokens": 900, "stored_rows": 0, "stored_tokens": 0},
        "disk_bytes": 61_000_000,
        **changes,
    }


FAILED = {"status": "failed", "sentence": "<b>no space</b>", "student": None, "teacher": None, "usd": None, "student_share": None}


def test_each_quantity_has_a_plot_with_a_description() -> None:
    trends = trends_of([night(1), night(2), night(3, **FAILED), night(4)])
    assert [t["title"] for t in trends] == ["Quality", "Share", "Duration", "Cost", "Teacher", "Disk"]
    quality = str(trends[0]["plot"])
    assert "student: 44 to 44 in 3 nights" in quality and "1 failed" in quality
    assert "1 November, 02:00: student 44 (95 % interval 40 to 48)" in quality and "failed on 3 November, 02:00" in quality
    assert quality.count("<polyline") == 2


def test_a_share_is_drawn_from_none_to_all() -> None:
    share = str(trends_of([night(1), night(2)])[1]["plot"])
    assert ">0<" in share and ">100<" in share and "−" not in share and ">-" not in share


def test_a_quantity_that_no_night_has_is_left_out() -> None:
    assert [t["title"] for t in trends_of([night(d, usd=None, student=None, teacher=None) for d in (1, 2)])] == [
        "Share",
        "Duration",
        "Teacher",
        "Disk",
    ]


@pytest.mark.parametrize("nights", [[], [night(1)]])
def test_one_night_is_no_trend(nights: list[dict[str, Any]]) -> None:
    assert trends_of(nights) == []
    assert "<svg" not in render_trends("bank", nights, [None] * len(nights))


def test_nights_of_an_earlier_version_have_only_their_times() -> None:
    bare = {"cycle": "c", "started_at": "2026-11-01T02:00:00+00:00", "status": "completed", "ran": 0, "seconds": 9.0}
    assert [t["title"] for t in trends_of([bare, night(2)])] == ["Quality", "Share", "Duration", "Cost", "Teacher", "Disk"]
    assert [t["title"] for t in trends_of([bare, bare])] == ["Duration"]


def test_only_failed_nights_still_make_a_page() -> None:
    page = render_trends("bank", [night(1, **FAILED), night(2, **FAILED)], [None, None])
    assert "&lt;b&gt;no space" in page and "<b>no" not in page


def test_the_table_has_the_newest_night_first_and_links_to_its_run() -> None:
    page = render_trends("bank", [night(1), night(2)], [None, "http://127.0.0.1:5000/#/experiments/1/runs/r2"])
    assert re.findall(r"hold: version (\d)", page) == ["2", "1"]
    assert page.count("<a href=") == 1 and 'href="http://127.0.0.1:5000/#/experiments/1/runs/r2"' in page


def test_the_report_has_the_trends_and_what_was_asked() -> None:
    tree = sample_tree()
    assert 'id="trends"' not in render(tree)
    tree |= {"nights": [night(1), night(2)]}
    tree |= {
        "teacher_use": {
            "asked_rows": 32,
            "asked_tokens": 410,
            "stored_rows": 133,
            "stored_tokens": 1800,
            "earlier_rows": 133,
            "earlier_tokens": 1800,
        }
    }
    page = render(tree)
    assert 'id="trends"' in page and 'href="#trends"' in page
    assert (
        "was asked 32 rows (410 completion tokens)" in page
        and "133 of all rows (1,800 tokens) keep the completions of an earlier teacher" in page
    )
