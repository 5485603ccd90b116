"""Rows as others write them, and what of a row would vanish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from redistill.data.inspection import inspect
from redistill.data.layouts.all_layouts import read
from redistill.data.layouts.types import Request
from redistill.data.types import Message
from redistill.errors import DataError

ASKED = (Message("system", "Be brief."), Message("user", "My card is gone."))
SYSTEM, USER = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "My card is gone."}
REPLY = {"role": "assistant", "content": "card"}


@pytest.mark.parametrize(
    ("row", "request_"),
    [
        ({"messages": [SYSTEM, USER]}, Request(ASKED)),
        ({"messages": [SYSTEM, USER, REPLY]}, Request(ASKED, "card")),
        ({"messages": [USER, REPLY, USER]}, Request((ASKED[1], Message("assistant", "card"), ASKED[1]))),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "My card "}, {"type": "text", "text": "is gone."}],
                        "tool_calls": None,
                    }
                ]
            },
            Request(ASKED[1:]),
        ),
        ({"conversations": [{"from": "human", "value": "My card is gone."}, {"from": "gpt", "value": "card"}]}, Request(ASKED[1:], "card")),
        ({"system": "Be brief.", "conversations": [{"from": "human", "value": "My card is gone."}]}, Request(ASKED)),
        ({"instruction": "My card is gone.", "input": "", "output": "card"}, Request(ASKED[1:], "card")),
        ({"instruction": "Sort it:", "input": "My card is gone."}, Request((Message("user", "Sort it:\n\nMy card is gone."),))),
        ({"system": "Be brief.", "instruction": "My card is gone."}, Request(ASKED)),
        ({"text": "x"}, None),
    ],
)
def test_layouts(row: dict[str, Any], request_: Request | None) -> None:
    assert read(row, "a.jsonl, line 1") == request_


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [{**USER, "tool_calls": [{"id": "1"}]}]}, "it has tool_calls, which redistill cannot show"),
        ({"messages": [USER, {"role": "tool", "content": "5", "tool_call_id": "1"}]}, "it has tool_call_id"),
        ({"messages": [USER], "tools": [{"type": "function"}]}, "it has tools"),
        ({"instruction": "x", "history": [["a", "b"]]}, "it has history"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "the content of a turn of user must be text, but it is list",
        ),
        ({"messages": [{"role": "user", "content": None}]}, "must be text, but it is NoneType"),
        ({"messages": [REPLY]}, "the conversation asks nothing"),
        ({"messages": [USER, REPLY, REPLY]}, "the conversation asks nothing"),
        ({"messages": [USER, SYSTEM]}, "ends with a system message"),
        ({"conversations": [{"from": "function_call", "value": "x"}]}, "the role function_call is unknown"),
        ({"conversations": {"from": "human"}}, "conversations must be a list of objects"),
    ],
)
def test_what_would_vanish_is_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(row, "a.jsonl, line 1")
    assert str(caught.value).startswith("a.jsonl, line 1: ")


@pytest.mark.parametrize(
    ("row", "text", "several"),
    [
        (
            lambda text, label: {"messages": [SYSTEM, {"role": "user", "content": text}, {"role": "assistant", "content": label}]},
            "messages",
            True,
        ),
        (lambda text, label: {"messages": [{"role": "user", "content": text}], "label": label}, "messages", False),
        (
            lambda text, label: {"conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": label}]},
            "conversations",
            False,
        ),
        (lambda text, label: {"instruction": text, "input": "", "output": label}, "instruction", False),
        (lambda text, label: {"text": text, "label": label, "input": "x"}, "text", False),
    ],
    ids=["openai", "openai with labels", "sharegpt", "alpaca", "columns"],
)
def test_init_knows_layouts(tmp_path: Path, row: Any, text: str | None, several: bool) -> None:
    rows = [row(f"Where is my card number {i}?", ["card", "fee"][i % 2]) for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    facts = inspect(tmp_path / "rows.jsonl")
    assert (facts.rows, facts.text, facts.label, facts.task, facts.labels) == (40, text, "label", "classification", ("card", "fee"))
    assert facts.several_turns == several and facts.max_chars == len("Where is my card number 39?")
