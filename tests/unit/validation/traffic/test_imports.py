from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from redistill.data.forgotten import tombstone_digest
from redistill.data.params import DataParams, RecordParams, SourceParams
from redistill.data.traffic.types import LoggedRequest
from redistill.data.types import Column, Message, prompt_id
from redistill.validation.traffic.imports import ImportSettings, Tally, imported
from redistill.validation.traffic.scrub import scrubbed

SETTINGS = ImportSettings("openai", "terms of use", "CC0-1.0", "metadata.customer.tier", 200)


def data(**changes: Any) -> DataParams:
    source = SourceParams(path="a.jsonl", splits={"train": 1.0})
    return DataParams(**{"name": "x", "task": "record", "record": RecordParams(labels=("fee",)), "source": (source,), **changes})


def read(path: Path, *rows: Any, ids: set[str] | None = None, **changes: Any) -> tuple[list[LoggedRequest], Tally]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tally = Tally()
    return list(imported(path, data(**changes), SETTINGS, set() if ids is None else ids, tally)), tally


def request(text: str, **others: Any) -> dict[str, Any]:
    return {
        "created": 5,
        "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "the other model's words"}],
        **others,
    }


def test_personal_data_and_secrets_are_replaced_everywhere(tmp_path: Path) -> None:
    row = request(
        "My mail is anna.smith@example.com and the key AKIAIOSFODNN7EXAMPLE",
        id="anna.smith@example.com",
        metadata={"customer": {"tier": "gold"}, "product": "card of bob@example.com"},
    )
    template = "{product}: {text}\n=>"
    [stored], tally = read(tmp_path / "x.jsonl", row, prompt_template=template)
    assert stored.messages[0].content == "My mail is [EMAIL] and the key [SECRET]" and stored.columns == (
        Column("product", "card of [EMAIL]"),
    )
    assert (
        stored.replaced == 3
        and tally.replaced == 1
        and stored.slice == "gold"
        and stored.prompt_id == prompt_id(stored.messages, stored.columns)
    )
    assert not any(word in repr(stored) for word in ("anna", "bob", "AKIA", "the other model's words"))


def test_a_slice_with_personal_data_is_not_stored(tmp_path: Path) -> None:
    slices = ["anna.smith@example.com", "x" * 300, "a\nb", None, True, "gold"]
    rows, _ = read(tmp_path / "x.jsonl", *(request(f"message {n}", metadata={"customer": {"tier": s}}) for n, s in enumerate(slices)))
    assert [row.slice for row in rows] == ["all"] * 5 + ["gold"]


def test_the_same_record_again_adds_nothing(tmp_path: Path) -> None:
    ids: set[str] = set()
    rows = [request("one", id="1"), request("two"), request("two"), request("two", created=6)]
    first, tally = read(tmp_path / "x.jsonl", *rows, ids=ids)
    assert [(row.messages[0].content, row.at) for row in first] == [("one", 5.0), ("two", 5.0), ("two", 6.0)] and tally.already == 1
    again, tally = read(tmp_path / "y.jsonl", *rows, request("three"), ids=ids)
    assert [row.messages[0].content for row in again] == ["three"] and tally.already == 4


def test_a_row_is_a_prompt_without_a_completion(tmp_path: Path) -> None:
    [row], _ = read(tmp_path / "x.jsonl", request("why this fee"))
    assert (row.student, row.teacher, row.score, row.route, row.version) == (None, None, None, "", "")
    assert (row.source, row.consent, row.licence, row.at) == ("openai", "terms of use", "CC0-1.0", 5.0)


def test_what_is_no_prompt_of_the_task_is_counted(tmp_path: Path) -> None:
    rows = [
        request("x" * 201),
        request("\ud800"),
        {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "a"}]},
        {"request": {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}},
        {"messages": [{"role": "user", "content": "a"}], "tools": [{}]},
    ]
    kept, tally = read(tmp_path / "x.jsonl", *rows)
    assert not kept and tally.left_out == {
        "longer than intake.max_chars (200)": 1,
        "text with an incomplete Unicode character": 1,
        "several messages, and data.format is plain": 1,
        "the last message asks nothing": 1,
        "tools": 1,
    }
    _, tally = read(tmp_path / "x.jsonl", request("a"), prompt_template="{product}: {text}\n=>")
    assert tally.left_out == {"no 'product', which the template shows": 1}


def test_broken_records_are_named_by_file_and_line(tmp_path: Path) -> None:
    kept, tally = read(tmp_path / "x.jsonl", request("one"), 5, *[{"a": 1}] * 40, request("two"))
    assert len(kept) == 2 and tally.broken_rows == 41 and len(tally.broken) == 30
    assert tally.broken[0] == f"{tmp_path / 'x.jsonl'}, line 2: a whole number is not a JSON object"


def test_a_token_that_was_there_before_is_not_counted() -> None:
    assert scrubbed("call [PHONE]") == ("call [PHONE]", 0)
    assert scrubbed("[EMAIL] a@example.com and b@example.com")[1] == 2


def test_a_prompt_that_was_removed_before_is_left_out(tmp_path: Path) -> None:
    rows = [request(text) for text in ("My mail is anna@example.com", "please remove me", "keep me")]
    [mail, plain, kept], _ = read(tmp_path / "x.jsonl", *rows)
    # The first was removed from data that had it as it is, the second from logged traffic.
    as_it_is = prompt_id((Message("user", "My mail is anna@example.com"),))
    assert as_it_is != mail.prompt_id
    settings = replace(SETTINGS, forgotten=frozenset(map(tombstone_digest, (as_it_is, plain.prompt_id))))
    tally, ids = Tally(), set[str]()
    assert list(imported(tmp_path / "x.jsonl", data(), settings, ids, tally)) == [kept] and ids == {kept.id}
    assert (tally.rows, dict(tally.left_out)) == (1, {"removed before with `redistill forget`": 2})
