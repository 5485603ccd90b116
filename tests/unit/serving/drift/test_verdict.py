"""The verdict: one window decides nothing, a warning comes before acting, small effects never act, and calm needs several windows."""

from __future__ import annotations

from typing import get_args

import pytest

from redistill.config.file import validated
from redistill.serving.drift.params import DriftParams
from redistill.serving.drift.types import Measure, MeasureName, Verdict, Window
from redistill.serving.drift.verdict import next_verdict

PARAMS = DriftParams(of_windows=4, warn_after=2, act_after=3, calm_after=2)


def window(words: str, verdict: Verdict = "calm") -> Window:
    """``words`` such as ``prompts! slices``: raised measures, ``!`` where beyond the limit, ``?`` where it judges nothing."""
    marks = {word.rstrip("!?"): word[-1] for word in words.split()}
    measures = []
    for name in get_args(MeasureName):
        raised, unjudged = name in marks and marks[name] != "?", "too few" if marks.get(name) == "?" else ""
        measures.append(Measure(name, 100, 100, 0.1, raised=raised, large=marks.get(name) == "!", unjudged=unjudged))
    return Window(0.0, 1.0, 100, tuple(measures), False, {}, verdict)


def verdicts(*words: str, params: DriftParams = PARAMS) -> str:
    """The first letters of the verdicts of windows that follow each other."""
    windows: list[Window] = []
    for each in words:
        new = window(each)
        decided = next_verdict((*windows, new), params)
        windows.append(window(each, decided))
    return "".join(w.verdict[0] for w in windows)


def test_one_window_decides_nothing_and_two_warn() -> None:
    assert verdicts("prompts!", "", "", "", "") == "ccccc"
    assert verdicts("prompts", "", "prompts") == "ccw"
    assert verdicts("prompts", "", "", "", "prompts") == "ccccc", "beyond the last four windows"


def test_another_measure_each_time_is_chance() -> None:
    assert verdicts("prompts", "slices", "length", "scores") == "cccc"


def test_acting_needs_a_warning_and_an_effect_that_lasts() -> None:
    assert verdicts(*["prompts!"] * 4) == "cwaa"
    assert verdicts(*["prompts"] * 9) == "c" + "w" * 8, "small p-values alone never act"
    assert verdicts("prompts!", "prompts!", "prompts", "prompts!") == "cwwa"
    assert verdicts("prompts!", "slices!", "prompts!", "slices!", "prompts!") == "ccwww", "no measure is beyond its limit in three"
    jump = DriftParams(of_windows=4, warn_after=3, act_after=1, calm_after=2)
    assert verdicts(*["prompts!"] * 4, params=jump) == "ccwa", "never from calm to act at once"


def test_calm_needs_several_windows_in_a_row() -> None:
    assert verdicts("prompts!", "prompts!", "prompts!", "", "prompts", "", "") == "cwaaaac"
    assert verdicts("prompts", "prompts", "", "") == "cwwc"


def test_what_is_not_judged_any_more_is_not_calm() -> None:
    assert verdicts("prompts", "prompts", "prompts?", "prompts?", "prompts?") == "cwwww"
    assert verdicts("slices", "", "", "", "", "prompts", "prompts", "slices?", "slices?") == "ccccccwwc", "an old measure plays no part"


def test_a_rule_that_cannot_be_fulfilled_is_refused() -> None:
    checked, problems = validated(DriftParams, {"of_windows": 3, "act_after": 4}, "drift")
    assert checked is None and "only the last 3 windows" in problems[0]


@pytest.mark.parametrize("key", ["level", "min_rows"])
def test_limits_below_what_a_test_can_reach_are_refused(key: str) -> None:
    assert validated(DriftParams, {key: 0.001 if key == "level" else 10}, "drift")[0] is None
