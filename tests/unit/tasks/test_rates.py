"""The rate of a stage without its start, kept for `redistill estimate --rows`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.results.rates import MeasuredRate, RateMeter, measured_rates


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("REDISTILL_RAY_ADDRESS", "REDISTILL_REPLICAS"):
        monkeypatch.delenv(name, raising=False)


def measured(stage: str, rows: int) -> dict[str, MeasuredRate]:
    meter = RateMeter(stage)
    for _ in range(rows):
        meter.count()
    meter.remember()
    return measured_rates()


def test_the_first_row_is_the_start_and_a_few_rows_say_nothing() -> None:
    assert measured("score", 50) == {}
    assert measured("score", 51)["score"].rows == 50
    assert set(measured("generate", 80)) == {"score", "generate"}
    assert measured("score", 10)["score"].rows == 50, "a resumed stage leaves the rate as it was"


def test_a_rate_is_of_one_replica_and_nobody_guesses_how_many_there_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISTILL_RAY_ADDRESS", "head:6379")
    assert measured("generate", 100) == {}
    monkeypatch.setenv("REDISTILL_REPLICAS", "4")
    assert measured("generate", 100)["generate"].replicas == 4
    assert MeasuredRate(100, 50.0, 4).seconds_a_row == 2.0
