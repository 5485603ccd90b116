"""``redistill.report.page``: everything is on the page, nothing breaks out of it, and what is missing is no reason to fail."""

from __future__ import annotations

import copy
import itertools
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from redistill.report.formats import differing, duration, limits, moment, number, percent
from redistill.report.page import gate, render, varied
from redistill.report.plots import WIDTH, Axis, spread
from tests.unit.report.sample_report import FIELDS, SLICES, sample_tree

_VOID = {"meta", "link", "br", "img", "line", "circle", "path", "polyline", "hr"}
_ATTACK = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"


class Page(HTMLParser):
    """The page's tags, attributes and text; fails on tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def count(self, tag: str) -> int:
        return sum(t == tag for t, _ in self.tags)


def words_of(html: str) -> str:
    return re.sub(r"\s+", " ", Page(html).text)


def replaced_everywhere(tree: Any, value: Any, wanted: type | tuple[type, ...]) -> Any:
    """The tree with each leaf of a kind replaced; keys and structure stay."""
    if isinstance(tree, dict):
        return {k: replaced_everywhere(v, value, wanted) for k, v in tree.items()}
    if isinstance(tree, list):
        return [replaced_everywhere(v, value, wanted) for v in tree]
    return value if isinstance(tree, wanted) and not isinstance(tree, bool) else tree


def test_all_parts_are_there_in_order() -> None:
    html = render(sample_tree())
    ids = re.findall(r'<section id="(\w+)"', html)
    assert ids == (
        [
            "decision",
            "retention",
            "gates",
            "cascade",
            "patch",
            "arms",
            "plots",
            "calibration",
            "economics",
            "slices",
            "fairness",
            "breadth",
            "depths",
            "training",
            "governance",
            "examples",
            "stages",
            "history",
            "lineage",
        ]
    )
    text = words_of(html)
    for said in (
        "bank-triage", "2026-11-22T02-00-11-7f3a", "22 November 2026, 03:14 UTC", "7 (kd)", "Hold", "It passes 8 of 9 gates", "The teacher responds now.",
        "94.8 %", "91.1–98.4", "92.8 %", "89.8–94.9", "p = 0.180", "p < 0.001", "−7.7 to −0.3 points (99.0 %)", "> −5.0 points", "< 1.00",
        "Slice e-mail", "Training rows audited", "Looks at this held-out set", "a loss of 5.1 points is the smallest",
        "held-0042", "Worth it at 1,000,000 requests", "24 requests to both in turns", "A month has 2 whole cycles because of changes", "Brier score", "A perfectly calibrated model would show 1.6–7.2 on these rows (95 %): miscalibrated.", "19 November 2026, 03:11 UTC", "5,083 more held-out rows.",
        "31 caught, none passed", "near-copy of a held-out row", "SmolLM2-135M-Instruct", "2028-11-22", "12 layers", "49.6 M", "3 min 32 s", "30 layers (teacher)", "column mean to be between", "at least 0.5", "[card number]",
        "Student right, teacher wrong", "Teacher right, student wrong", "finetune@kd", "47 min 56 s", "fe0072e4c1a95b0d8a1f6a3f3be2ad90c11c7f52", "77d10c52" * 8,
        "4be9d3a1" * 8, "18be77d2" * 8, "artifacts/students/kd", *FIELDS, *SLICES,
    ):  # fmt: skip
        assert said in text, said
    assert "linear model suffices" not in text and "Warning" not in text


def test_the_raw_teacher_with_examples_stands_beside_the_other_arms() -> None:
    """It is not timed, so it has no cost by time."""
    tree = sample_tree()
    cost = {k: v for k, v in tree["arms"]["teacher"]["cost"].items() if not k.endswith(("_s", "per_s"))}
    tree["arms"]["prompted"] = {**tree["arms"]["teacher"], "who": "prompted", "cost": cost}
    text = words_of(render(tree))
    assert "prompted (the raw teacher with examples)" in text and "because a value is unknown: prompted" in text


def test_same_tree_same_bytes_and_tree_untouched() -> None:
    tree = sample_tree()
    before = copy.deepcopy(tree)
    assert render(tree) == render(sample_tree()) and tree == before
    assert len(render(tree)) < 120_000


def test_promotion_is_said_plainly() -> None:
    tree = sample_tree()
    tree["decision"].update(verdict="promote", more_rows=0)
    tree["route"].update(answers="student", mode="student", model_version="7", pin="student", reason="version 7 was promoted")
    text = words_of(render(tree))
    assert "Promote" in text and "The student does not replace" not in text
    assert "The student responds now, version 7." in text and "An operator has pinned the student." in text
    assert "Still wanted as evidence" not in text


def test_says_where_a_linear_model_suffices_and_warns_of_planted_rows() -> None:
    tree = sample_tree()
    tree["decision"]["linear_suffices"] = True
    tree["governance"]["planted_passed"] = ["unl-0004", "unl-0999"]
    tree["governance"]["licences"][0]["expires"] = "2026-11-01"
    text = words_of(render(tree))
    assert "A linear model suffices." in text
    assert "Warning: 2 planted rows passed intake." in text and "unl-0004, unl-0999" in text
    assert "2026-11-01 expired" in text


def test_no_ratio_of_times_stands_without_its_interval() -> None:
    text = words_of(render(sample_tree()))
    told = re.findall(r"\d\.\d\d times(?=(.{80}))", text)
    assert len(told) >= 3, "the arms, a full batch, and the gate"
    assert all(re.search(r"\(.*\d\.\d\d to \d\.\d\d", after) for after in told), told
    assert re.search(r"It pays from [\d,]+ requests a month \([\d,]+ to [\d,]+\)", text)


def test_an_unclear_saving_is_called_unclear() -> None:
    tree = sample_tree()
    tree["economics"]["break_even"].update(verdict="unclear", requests_per_month_interval=[40_000, None])
    tree["economics"]["break_even"]["saving_usd_per_month_interval"] = {"low": -1.5, "high": 3.25}
    text = words_of(render(tree))
    assert "Unclear at 1,000,000 requests a month" in text and "(−1.50 to 3.25)" in text and "(40,000 to never)" in text


def test_a_cycle_without_a_complete_run_of_a_stage_has_no_price() -> None:
    tree = sample_tree()
    tree["economics"]["break_even"] = tree["economics"]["month"] = None
    tree["economics"]["cycle"].update(unmeasured=["finetune@kd"], seconds_whole=None, usd_whole=None)
    assert "Not known yet: no complete run of finetune@kd has been seen here" in words_of(render(tree))


def test_nothing_from_outside_becomes_markup() -> None:
    """Hostile text as every value and as every name that data can choose."""
    plain = sample_tree()
    tree = replaced_everywhere(plain, _ATTACK, str)
    tree["candidate"] = "kd"
    for arm in tree["arms"].values():
        arm["fields"] = {_ATTACK + k: v for k, v in arm["fields"].items()}
        arm["slices"] = {_ATTACK + k: v for k, v in arm["slices"].items()}
    tree["arms"][_ATTACK] = tree["arms"].pop("sft")
    tree["training"][_ATTACK] = tree["training"].pop("sft")
    tree["lineage"]["outs"] = {_ATTACK + path: out for path, out in tree["lineage"]["outs"].items()}
    html = render(tree)
    page = Page(html)
    assert page.count("script") == page.count("img") == 0 and "alert(1)" in page.text
    assert not any(name.startswith("on") or name == "src" for _, attributes in page.tags for name in attributes)
    assert "{{ 7 * 7 }}" in page.text


def test_leaves_the_browser_nothing_to_fetch() -> None:
    page = Page(render(sample_tree()))
    targets = [v for _, attributes in page.tags for k, v in attributes.items() if k in ("href", "src", "srcset", "data", "action")]
    assert all(v and v.startswith(("#", "data:,")) for v in targets)
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert policy and policy.startswith("default-src 'none'")
    assert not re.search(r"url\(|@import", render(sample_tree()))


def test_plots_have_names_and_headings_are_ordered() -> None:
    page = Page(render(sample_tree()))
    plots = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(plots) == 13 and all(a["role"] == "img" and len(a["aria-label"] or "") > 20 for a in plots)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b <= a + 1 for a, b in itertools.pairwise(levels))
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids)) and all(a["aria-labelledby"] in ids for _, a in page.tags if "aria-labelledby" in a)


def test_drawn_things_stay_inside_their_plot() -> None:
    for height, body in re.findall(rf'<svg class="plot"[^>]*viewBox="0 0 {WIDTH} (\d+)"[^>]*>(.*?)</svg>', render(sample_tree())):
        for name, value in re.findall(r' (c?[xy][12]?)="([^"]+)"', body):
            assert 0 <= float(value) <= (WIDTH if "x" in name else float(height)), (name, value)


@pytest.mark.parametrize("part", sorted(sample_tree()))
@pytest.mark.parametrize("empty", ["missing", "none", "empty"])
def test_parts_may_be_missing(part: str, empty: str) -> None:
    tree = sample_tree()
    if empty == "missing":
        del tree[part]
    else:
        tree[part] = None if empty == "none" else type(tree[part])()
    text = words_of(render(tree))
    assert ("bank-triage" in text) == (part != "data_name") and "Decision" in text and "Lineage" in text


def test_without_optional_parts() -> None:
    tree = sample_tree()
    del tree["arms"]["linear"]
    tree["arms"]["teacher"]["cost"]["parameters"] = None
    tree["arms"]["teacher"]["cost"]["disk_bytes"] = 0
    tree["retention"]["f1"] = None
    tree["governance"]["intake"]["dropped"] = tree["governance"]["validate"]["dropped"] = []
    tree["governance"].update(sample=[], planted_caught=0)
    tree.update(training={}, examples=[])
    text = words_of(render(tree))
    assert "Nothing was dropped." in text and "No training curves" in text and "same completion for every row" in text
    assert "Not shown, because a value is unknown: teacher." in text and "Rows planted" not in text
    assert not re.search(r"\b(nan|none)\b", text.lower())


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 0, -1.5, 1e300])
def test_odd_numbers_do_not_stop_the_report(odd: float) -> None:
    """Infinities and NaN survive JSON as Python writes it; a benchmark of broken weights can make them."""
    html = render(replaced_everywhere(sample_tree(), odd, (int, float)))
    assert "Hold" in words_of(html)
    assert not re.search(r'"[^"]*\b(nan|inf)\b[^"]*"', "".join(re.findall(r"<(?:line|circle|text|polyline|path)[^>]*>", html)))


def test_one_arm_alone() -> None:
    tree = sample_tree()
    tree["arms"] = {"kd": tree["arms"]["kd"]}
    assert "kd" in words_of(render(tree))


def test_numbers_and_names() -> None:
    assert [number(v) for v in (1234.56, -0.04, -2.5, None, math.nan, "x")] == ["1,234.6", "0.0", "\u22122.5", "–", "–", "–"]
    assert [percent(0.5), percent(None)] == ["50.0\u00a0%", "–"]
    assert [duration(s) for s in (4.25, 61, 7265, None)] == ["4.2 s", "1 min 1 s", "2 h 1 min", "–"]
    assert [moment("2026-11-22T03:14:07+00:00"), moment("yesterday")] == ["22 November 2026, 03:14 UTC", "yesterday"]
    assert [limits({"min_value": 1, "max_value": 2}), limits({"min_value": 1}), limits({"max_value": 2})] == [
        "1 to 2",
        "at least 1",
        "at most 2",
    ]
    assert limits({}) == limits(None) == "–"
    unknown = gate({"name": "a_new_gate", "result": "pass", "value": 2.0, "limit": 3.0, "interval": None, "sentence": "so"})
    assert unknown["title"] == "A new gate" and unknown["interval"] == "–"
    assert gate({"name": "smaller", "unit": "ratio", "value": 0.47, "limit": None})["limit"] == "<\u00a0–"
    recall = gate(
        {
            "name": "recall_card_stolen",
            "unit": "share",
            "value": 0.9,
            "limit": 0.8,
            "interval": {"low": 0.81, "high": 0.95},
            "confidence": 0.9,
        }
    )
    assert [recall[k] for k in ("title", "value", "limit", "interval")] == [
        "Recall of card stolen", "90.0\u00a0%", ">\u00a080.0\u00a0%", "81.0 to 95.0\u00a0% (90.0\u00a0%)",
    ]  # fmt: skip


def test_differing_marks_wrong_and_missing_parts() -> None:
    assert differing("fraud; amount=£4", "fraud; amount=£4") == "fraud; amount=£4"
    changed = differing("refund; urgent", "dispute; urgent")
    assert "<mark>refund</mark>" in changed and "</span>dispute</del>; urgent" in changed
    assert "<mark>" not in differing("fraud", "fraud; urgent") and "<del>" not in differing("fraud; urgent", "fraud")
    assert "(empty)" in differing("", "") and "missing" in differing(None, "fraud")
    assert differing("<b>", "<b>") == "&lt;b&gt;" and differing("a <b> " * 900, "c " * 900).startswith("a &lt;b&gt;")


def test_varied_takes_every_filter_first() -> None:
    rows = [{"stage": "prepare", "filter": f, "n": n} for f in ("a", "b") for n in range(3)]
    assert [(r["filter"], r["n"]) for r in varied(rows, 3)] == [("a", 0), ("b", 0), ("a", 1)]


def test_axis_and_label_spreading() -> None:
    straight, log = Axis.over([0.0, 71.6], 0, 100, ceiling=100.0), Axis.over([2.0, 300.0], 0, 100, log_beyond=3.0)
    assert straight.ticks() == [0, 20, 40, 60, 80] and not straight.log
    assert log.log and 2 <= len(log.ticks()) <= 6 and 0 < log.at(2.0) < log.at(300.0) < 100
    assert Axis.over([5.0], 0, 100).at(5.0) == 50
    placed = spread([50.0, 50.0, 52.0], 0, 100)
    assert all(b - a >= 13.5 for a, b in itertools.pairwise(sorted(placed))) and placed[0] < placed[1] < placed[2]
