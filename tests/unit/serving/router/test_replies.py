"""What a server answers, as a completion and its trace; and what is no completion."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from redistill.serving.router.replies import logprobs_for, read_completion, read_part, trace_of
from redistill.serving.router.types import UpstreamError

# As vLLM 0.32 answered for a student of the bank example (`redistill up-models`), shortened to two of twenty listed tokens.
VLLM = {
    "tokens": [" fraud", ";", " urgent", "<|im_end|>"],
    "token_logprobs": [-0.5166, -0.0044, -0.00096, -0.00061],
    "text_offset": [0, 6, 7, 14],
    "top_logprobs": [
        {" transfer": -1.4308, " fraud": -0.5166},
        {";": -0.0044, "+": -6.1},
        {" urgent": -0.00096, " amount": -7.0},
        {"<|im_end|>": -0.00061, ";": -7.9},
    ],
}


def reply(**choice: Any) -> bytes:
    return json.dumps(
        {"choices": [{"text": " fraud; urgent", "finish_reason": "stop", "logprobs": VLLM, **choice}], "usage": {"completion_tokens": 4}}
    ).encode()


def test_a_completion_of_vllm() -> None:
    completion = read_completion(reply())
    trace = completion.trace
    assert trace is not None and completion.text == " fraud; urgent" and completion.usage == {"completion_tokens": 4}
    assert trace.ends == (6, 7, 14, 14), "the end token has no characters"
    assert trace.logprobs == (-0.5166, -0.0044, -0.00096, -0.00061) and trace.top[0] == ((" fraud", -0.5166), (" transfer", -1.4308))
    assert math.isclose(trace.margin(0), 0.9142)


@pytest.mark.parametrize("wrong", [None, math.nan, -math.inf, math.inf, 0.5, "x", True])
def test_one_logprob_that_is_none_makes_the_trace_unusable(wrong: Any) -> None:
    listed = {**VLLM, "token_logprobs": [-0.5, wrong, -0.1, -0.1]}
    assert trace_of(" fraud; urgent", listed) is None


@pytest.mark.parametrize(
    "change", [{"top_logprobs": None}, {"top_logprobs": []}, {"tokens": []}, {"token_logprobs": [-0.1]}, {"top_logprobs": [{}] * 4}]
)
def test_what_is_not_listed_is_not_guessed(change: dict[str, Any]) -> None:
    assert trace_of(" fraud; urgent", {**VLLM, **change}) is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", "malformed"),
        (b"[]", "malformed"),
        (b'{"choices": []}', "malformed"),
        (b'{"choices": [{"text": null}]}', "malformed"),
        (b'{"choices": [{"text": ["a"]}]}', "malformed"),
        (b'{"choices": [{"text": " \\n"}]}', "empty"),
        (b'{"choices": [{"message": {"content": null, "refusal": "no"}, "finish_reason": "content_filter"}]}', "empty"),
        (b'{"error": {"message": "no"}}', "error-object"),
        (b'{"choices": [{"text": "a", "finish_reason": "abort"}]}', "error-object"),
        (b"[" * 200_000, "malformed"),
    ],
)
def test_what_is_no_completion(body: bytes, kind: str) -> None:
    with pytest.raises(UpstreamError) as failed:
        read_completion(body)
    assert failed.value.kind == kind and failed.value.trips == (kind != "empty")


def test_parts_of_a_stream() -> None:
    assert read_part({"choices": [], "usage": {"completion_tokens": 3}}).usage == {"completion_tokens": 3}
    assert read_part({"choices": [{"delta": {"content": "a"}, "finish_reason": None}]}).text == "a"
    assert (read_part({"choices": [{"text": "b", "finish_reason": "stop"}]}).finish) == "stop"
    assert read_part({"choices": ["x"]}).text == read_part({"choices": None}).text == ""


def test_logprobs_in_the_other_spelling() -> None:
    chat = logprobs_for("chat", VLLM, 1)
    assert chat is not None and chat["content"][0]["top_logprobs"] == [{"token": " fraud", "logprob": -0.5166, "bytes": list(b" fraud")}]
    back = logprobs_for("completions", chat, 1)
    assert back is not None and back["tokens"] == VLLM["tokens"] and back["text_offset"] == VLLM["text_offset"]
