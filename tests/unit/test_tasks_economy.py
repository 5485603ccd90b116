"""``redistill estimate``: from the sources alone, before anything has run."""

from __future__ import annotations

from pathlib import Path

import pytest

from redistill.artifacts import read_json, write_json
from redistill.config import load_params
from redistill.records import StageReceipt
from tasks import economy
from tests.tiny_project import make_tiny_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = make_tiny_project(tmp_path / "p", economics={"machine_usd_per_hour": 2.0})
    monkeypatch.chdir(made)
    return made


def test_a_first_cycle_is_estimated_from_its_sources(project: Path) -> None:
    found = economy.estimate(load_params())
    assert found["rows_to_ask"] > 100 and found["teacher_completion_tokens"] == 16 * found["rows_to_ask"]
    assert found["hours"] == pytest.approx(sum(found["seconds"].values()) / 3600, abs=1e-3) and found["measured"] == []
    assert found["usd"] == pytest.approx(2.0 * sum(found["seconds"].values()) / 3600, rel=1e-3)
    assert found["disk_bytes"] > 100_000 and found["break_even"] is None and "benchmarked" in found["why_no_break_even"]


def test_what_was_measured_replaces_what_was_assumed(project: Path) -> None:
    receipts = [StageReceipt("generate", "ran", {}, 7.0), StageReceipt("score", "unchanged", {}, 0.1)]
    assert economy.remember(receipts) == {"generate": 7.0}
    found = economy.estimate(load_params())
    assert found["measured"] == ["generate"] and found["seconds"]["generate"] == 7.0
    write_json(economy.SECONDS, {**read_json(economy.SECONDS), "score": 3.0})
    assert economy.remember(receipts) == {"generate": 7.0, "score": 3.0}, "what did nothing tonight still costs when it runs"


def test_without_a_price_no_money_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_tiny_project(tmp_path / "p"))
    found = economy.estimate(load_params())
    assert found["usd"] is None and "machine_usd_per_hour is not set" in found["why_no_break_even"]
