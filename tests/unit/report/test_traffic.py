"""The page about live traffic: what each measure says, a plot for each thing that there is, and nothing for what there is not."""

from __future__ import annotations

from redistill.report.traffic import plots_of, render_traffic
from redistill.report.two_samples import histograms, shares
from tests.unit.report.sample_traffic import sample_traffic


def test_the_page_says_verdict_values_and_why_something_is_not_judged() -> None:
    page = render_traffic(sample_traffic())
    assert ">Warn<" in page and "raised, and beyond its limit" in page and "as without drift" in page
    assert "not judged: 12 live rows; 100 are needed" in page and "190 / 270" in page and "Quality is at risk" in page
    assert "<b>refund" not in page and "&lt;b&gt;refund" in page


def test_each_thing_has_a_plot_with_a_description() -> None:
    plots = {plot["title"]: str(plot["plot"]) for plot in plots_of(sample_traffic())}
    assert list(plots) == ["Prompts", "Who answered", "Scores", "Predicted labels"]
    assert "by window: live:" in plots["Prompts"] and "in 8 windows" in plots["Prompts"]
    assert "median -" in plots["Scores"] and "fee; card_lost; a long one 30.0 % live, 22.0 % reference" in plots["Predicted labels"]


def test_what_a_window_does_not_have_is_left_out() -> None:
    tree = sample_traffic(windows=1) | {"scores": {"live": [], "reference": []}, "labels": [], "reasons": {}, "notes": []}
    tree["windows"][0]["measures"] = []
    assert [plot["title"] for plot in plots_of(tree)] == ["Who answered"]
    assert "Reasons of the router" not in render_traffic(tree)
    assert "Calm" not in render_traffic({"verdict": "warn", "windows": []})


def test_equal_scores_and_one_label_are_drawn() -> None:
    assert "<rect" in str(histograms("Rows, %", "Score", [1.0] * 5, [1.0] * 5))
    assert str(shares("Share", [("fee", 100.0, 100.0)])).count("<rect") == 1
