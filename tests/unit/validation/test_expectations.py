"""The batch rules, run by the real Great Expectations: each stops the cycle by its name and numbers, none shows a text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from redistill.errors import DataError
from redistill.io.json import write_json
from redistill.validation.expectations import DerivedRow, check_batch
from redistill.validation.params import ValidateParams

PARAMS = ValidateParams(min_rows=5, min_kept_share=0.5)
RULES = {
    "expect_table_row_count_to_be_between": "(table)",
    "expect_column_values_to_be_unique": "id",
    "expect_column_mean_to_be_between": "kept",
    "expect_column_values_to_be_between": "completion_tokens",
    "expect_column_values_to_not_be_null": "from_teacher",
    "expect_column_unique_value_count_to_be_between": "labels",
}


def rows(count: int, start: int = 0, **changes: object) -> list[DerivedRow]:
    return [replace(DerivedRow(f"p{i}/0", True, 3, -0.1, 1, "teacher-1"), **changes) for i in range(start, start + count)]  # type: ignore[arg-type]


DROPPED = {"kept": False, "labels": 0}
LONG = "expect_column_values_to_be_between on completion_tokens: observed {}, limits {{'min_value': 1.0, 'max_value': 49.0}}"
MEAN = "expect_column_mean_to_be_between on kept: observed {}, limits {{'min_value': 0.5}}"
COUNT = "expect_table_row_count_to_be_between on (table): observed {}, limits {{'min_value': 5}}"
LABELS = "expect_column_unique_value_count_to_be_between on labels: observed 0, limits {'min_value': 1}"
FAILS = {
    "too few rows": (rows(4), [COUNT.format(4)]),
    "a row twice": ([*rows(5), *rows(2)], ["expect_column_values_to_be_unique on id: observed 4"]),
    "too few kept": ([*rows(4), *rows(6, 4, **DROPPED)], [MEAN.format("0.4")]),
    "too long": ([*rows(5), *rows(2, 5, completion_tokens=50)], [LONG.format(2)]),
    "no tokens": ([*rows(5), *rows(1, 5, completion_tokens=0)], [LONG.format(1)]),
    "of no teacher": (
        [*rows(5), *rows(3, 5, from_teacher=None)],
        ["expect_column_values_to_not_be_null on from_teacher: observed 3"],
    ),
    "none kept": (rows(5, **DROPPED), [MEAN.format("0.0"), LABELS]),
    "no rows": ([], [COUNT.format(0), MEAN.format(None), LABELS]),
}


def test_a_sound_batch_passes_every_rule_and_the_numbers_are_told(tmp_path: Path) -> None:
    edge = [
        *rows(5, completion_tokens=49),
        *rows(1, 5, completion_tokens=1, mean_logprob=None),
        *rows(6, 6, completion_tokens=99, **DROPPED),
    ]
    told = check_batch(edge, PARAMS, 48, tmp_path / "docs")
    assert {r["rule"]: r["column"] for r in told} == RULES
    assert all(r["passed"] for r in told)
    seen = {r["column"]: r["seen"] for r in told}
    # Six of twelve kept is the limit itself; rows that were dropped for their length do not break the rule of length.
    assert seen == {"(table)": 12, "id": 0, "kept": 0.5, "completion_tokens": 0, "from_teacher": 0, "labels": 1}
    write_json(tmp_path / "summary.json", told)
    assert json.loads((tmp_path / "summary.json").read_text())[2]["limits"] == {"min_value": 0.5}
    pages = [p.relative_to(tmp_path / "docs") for p in (tmp_path / "docs").rglob("*.html")]
    assert any(p.name == "index.html" for p in pages) and any("validations" in p.parts for p in pages)


@pytest.mark.parametrize(("batch", "said"), FAILS.values(), ids=FAILS)
def test_each_rule_stops_the_batch_by_its_name_and_numbers(tmp_path: Path, batch: list[DerivedRow], said: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        check_batch(batch, PARAMS, 48, tmp_path)
    message = str(caught.value)
    start = f"the teacher's completions fail {len(said)} batch rule{'s' * (len(said) > 1)}: {'; '.join(said)}; "
    assert message.startswith(start) and "\n" not in message
    assert list(tmp_path.rglob("*.html"))


def test_all_broken_rules_are_told_at_once_and_a_second_batch_starts_afresh(tmp_path: Path) -> None:
    bad = [*rows(1), *rows(1, completion_tokens=99), *rows(2, 2, from_teacher=None, **DROPPED)]
    with pytest.raises(DataError) as caught:
        check_batch(bad, replace(PARAMS, min_kept_share=0.6), 48, tmp_path)
    assert "fail 5 batch rules" in str(caught.value) and all(rule in str(caught.value) for rule in list(RULES)[:5])
    assert all(r["passed"] for r in check_batch(rows(5), PARAMS, 48, tmp_path))


def test_the_docs_hold_the_derived_columns_and_nothing_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object) -> None:
        raise AssertionError("validation must not open a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    check_batch(rows(5), PARAMS, 48, tmp_path)
    [written] = [json.loads(p.read_text()) for p in tmp_path.rglob("validations/**/*.json")]
    columns = {r["expectation_config"]["kwargs"].get("column") for r in written["results"]}
    assert columns == {None, "id", "kept", "completion_tokens", "from_teacher", "labels"}
