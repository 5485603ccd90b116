from __future__ import annotations

import pytest

from redistill.evaluation.outcomes import without_reasoning
from redistill.teacher.reasoning import split_reasoning, unfinished


@pytest.mark.parametrize(
    ("text", "reasoning", "completion"),
    [
        ("<think>\nwhy\n</think>\n\nfee", "why", "\n\nfee"),
        (" <think></think>fee", "", "fee"),
        ("why</think>fee", "why", "fee"),
        ("fee", None, "fee"),
        ("<think>why", None, "<think>why"),
        ("<reasoning>why</reasoning><answer>7</answer>", None, "<reasoning>why</reasoning><answer>7</answer>"),
        ("the tags are <think> and </think>", None, "the tags are <think> and </think>"),
    ],
)
def test_only_reasoning_in_front_is_split_off(text: str, reasoning: str | None, completion: str) -> None:
    assert split_reasoning(text) == (reasoning, completion)
    assert unfinished(text) == (text == "<think>why")
    assert without_reasoning(text) == ("" if text == "<think>why" else completion.strip()), (
        "teacher and students are judged by what a caller gets"
    )
