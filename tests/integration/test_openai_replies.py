"""What an endpoint may reply: one prompt that fails, ends in many spellings, reasoning, and bodies that are no completion."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from redistill.data.grammars.types import Form
from redistill.data.types import Message
from redistill.errors import TeacherError
from redistill.models.structured_outputs import as_ebnf
from redistill.teacher.http import Reply
from redistill.teacher.params import GenerateParams
from redistill.teacher.types import TeacherRequest
from tests.integration.endpoints import failing, requests


@pytest.mark.parametrize(
    ("option", "reason", "detail"), [("--refuse", "refused", "status 400: 'fault 400'"), ("--break", "failed", "status 500: 'fault 500'")]
)
@pytest.mark.parametrize("count", [1, 30])
def test_one_prompt_that_fails_does_not_stop_the_others(serve: Any, teach: Any, option: str, reason: str, detail: str, count: int) -> None:
    endpoint = serve(option, "hello there 7\n")
    asked = [replace(r, prompt_id=r.prompt.split()[2]) for r in requests(30) if count == 30 or " 7\n" in r.prompt]
    answers = {a.request.prompt_id: a for a in teach(endpoint.url, max_retries=1).complete(asked, GenerateParams())}
    assert len(answers) == count
    assert (answers["7"].text, answers["7"].finish_reason, answers["7"].detail) == ("", reason, detail)
    assert {a.finish_reason for key, a in answers.items() if key != "7"} <= {"stop"}


def test_an_endpoint_that_only_chats_is_named(serve: Any, teach: Any) -> None:
    _, text = failing(teach(serve(faults=["404"]).url))
    assert text.endswith("; an endpoint that only chats needs data.format: chat") and "it says 'fault 404'" in text


def test_an_empty_completion_is_tried_once_more(serve: Any, teach: Any) -> None:
    empty = {"choice": {"text": " "}}
    endpoint = serve(faults=[empty])
    assert [a.text for a in teach(endpoint.url).complete(requests(1), GenerateParams())] == [" other"]
    endpoint = serve(faults=[empty, empty])
    assert [a.text for a in teach(endpoint.url).complete(requests(1), GenerateParams())] == [" "]
    assert len(endpoint.bodies) == 2
    endpoint = serve(faults=[{"choice": {"text": "", "finish_reason": "length"}}])
    assert [a.finish_reason for a in teach(endpoint.url).complete(requests(1), GenerateParams())] == ["length"], "reasoning took all tokens"


@pytest.mark.parametrize(
    ("finish", "ending"),
    [
        ("stop", "stop"), ("eos_token", "stop"), ("COMPLETE", "stop"), ("MAX_TOKENS", "length"), ("model_length", "length"),
        ("content_filter", "content_filter"), ("SAFETY", "safety"), ("tool_calls", "tool_calls"), (None, "unknown"), (7, "unknown"),
    ],
)  # fmt: skip
def test_how_a_completion_ended_has_one_spelling(serve: Any, teach: Any, finish: object, ending: str) -> None:
    endpoint = serve(faults=[{"choice": {"finish_reason": finish}}])
    assert [a.finish_reason for a in teach(endpoint.url).complete(requests(1), GenerateParams())] == [ending]


@pytest.mark.parametrize("finish", ["error", "insufficient_system_resource", "abort"])
def test_what_a_server_broke_off_is_tried_again(serve: Any, teach: Any, finish: str) -> None:
    endpoint = serve(faults=[{"choice": {"finish_reason": finish}}])
    assert [a.finish_reason for a in teach(endpoint.url).complete(requests(1), GenerateParams())] == ["stop"]
    assert len(endpoint.bodies) == 2


@pytest.mark.parametrize(
    ("content", "text", "reasoning", "finish"),
    [
        ("<think>\nIt is about a card.\n</think>\n\ncard\nmore", "card", "It is about a card.", "stop"),
        ("It is about a card.</think>card", "card", "It is about a card.", "stop"),
        ("<think>\nIt is about", "<think>\nIt is about", None, "unfinished reasoning"),
        ("card", "card", None, "stop"),
    ],
)
def test_reasoning_in_the_content_is_split_off(serve: Any, teach: Any, content: str, text: str, reasoning: str | None, finish: str) -> None:
    endpoint = serve(faults=[{"choice": {"message": {"role": "assistant", "content": content}}}])
    asked = TeacherRequest("p", 0, (Message("user", "raw"),), "raw\n=>", "app", ("\n",))
    [answer] = teach(endpoint.url, chat=True).complete([asked], GenerateParams())
    assert (answer.text, answer.reasoning, answer.finish_reason) == (text, reasoning, finish)


@pytest.mark.parametrize(
    "fault",
    [
        {"choice": {"text": ["objects"]}},
        {"choice": {"text": None}},
        {"raw": "[" * 100_000},
        {"raw": '{"choices": ' + "9" * 5000 + "}"},
        {"raw": '{"choices": [{"text": "x", "finish_reason": "stop"}]}', "kind": "application/json; charset=base64"},
        {"raw": "<html>", "kind": "text/html; charset=rot13"},
        {"bomb": 64},
        {"usage": {"completion_tokens": 10**400}, "choice": {"text": {}}},
    ],
    ids=lambda fault: str(fault)[:40],
)
def test_whatever_an_endpoint_sends_is_a_completion_or_one_line(serve: Any, teach: Any, fault: Any) -> None:
    endpoint = serve(faults=[fault, fault, fault])
    try:
        [answer] = teach(endpoint.url, max_retries=1).complete(requests(1), GenerateParams())
        assert answer.text == "x"
    except TeacherError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000


def test_a_request_has_the_keys_that_a_project_needs(serve: Any, teach: Any) -> None:
    endpoint = serve()
    free = {"max_completion_tokens": 64, "max_tokens": None, "seed": None, "reasoning_effort": "low", "temperature": 1}
    teacher = teach(endpoint.url, chat=True, request=free, budget_tokens=1000)
    assert teacher.probe().logprobs in ("none", "at_generation")
    list(teacher.complete(requests(1), GenerateParams(max_tokens=64)))
    body = endpoint.bodies[-1]
    assert (body["max_completion_tokens"], body["reasoning_effort"], body["temperature"]) == (64, "low", 1)
    assert "max_tokens" not in body and "seed" not in body
    with pytest.raises(ValueError, match="request must not set messages: redistill decides that"):
        teach(endpoint.url, request={"messages": []})


def test_whole_numbers_that_are_no_log_probabilities(serve: Any, teach: Any) -> None:
    endpoint = serve(faults=[{"choice": {"logprobs": {"tokens": ["a", "b"], "token_logprobs": [-(10**400), -0.5], "top_logprobs": []}}}])
    assert [a.text for a in teach(endpoint.url).complete(requests(1), GenerateParams(top_k=1))] == [" other"]
    assert len(endpoint.bodies) == 2
    free = serve(faults=[{"usage": {"completion_tokens": 10**400}}])
    teacher = teach(free.url, budget_usd=1.0, usd_per_million_completion_tokens=1.0, usd_per_million_prompt_tokens=1.0)
    assert len(list(teacher.complete(requests(3), GenerateParams()))) == 3


def test_token_ids_that_no_file_can_hold_are_left_out(serve: Any, teach: Any) -> None:
    logprobs = {"tokens": [f"token_id:{10**12}"], "token_logprobs": [-0.5], "top_logprobs": [{f"token_id:{10**12}": -0.5}]}
    endpoint = serve(faults=[{"choice": {"logprobs": logprobs}}])
    [answer] = teach(endpoint.url, vllm_ids=True).complete(requests(1), GenerateParams(top_k=1))
    assert (answer.token_ids, answer.top_ids, answer.mean_logprob) == ((), (), -0.5)


def test_a_server_that_counts_no_tokens_does_not_make_the_budget_endless(serve: Any, teach: Any) -> None:
    endpoint = serve(faults=[{"usage": {"prompt_tokens": 0, "completion_tokens": 0}}] * 50)
    answers, text = failing(teach(endpoint.url, budget_tokens=100, max_concurrency=1), n=50, max_tokens=8)
    assert len(answers) < 10 and "budget" in text


@pytest.mark.parametrize(
    "spell", [lambda k: base64.b64encode(k.encode()).decode(), lambda k: k.encode().hex(), lambda k: quote(k, safe="")]
)
def test_no_spelling_of_the_key_is_quoted(spell: Any) -> None:
    secret = "sk-a/b+c=SECRET?0123456789"
    shown = Reply(400, {}, json.dumps({"error": {"message": f"bad key {spell(secret)}!"}}).encode()).quoted(SecretStr(secret))
    assert shown == "'bad key [key]!'"


FEE_OR_PIN = Form("ebnf", 'root ::= "fee" | "pin"')


@pytest.mark.parametrize(
    ("form", "key", "value"),
    [
        (
            Form("json_schema", '{"type": "object"}'),
            "response_format",
            {"type": "json_schema", "json_schema": {"name": "completion", "schema": {"type": "object"}, "strict": True}},
        ),
        (FEE_OR_PIN, "structured_outputs", {"grammar": as_ebnf(FEE_OR_PIN)}),
    ],
)
def test_an_endpoint_that_refuses_the_form_ends_the_run_and_loses_no_row(serve: Any, teach: Any, form: Form, key: str, value: Any) -> None:
    """The harmless prompt is asked with the form too. Without it the endpoint would answer, and every row would be dropped as refused."""
    endpoint = serve(faults=["400"] * 2)
    with pytest.raises(TeacherError, match="returned status 400"):
        list(teach(endpoint.url, chat=True, max_concurrency=1).complete([replace(r, form=form) for r in requests(3)], GenerateParams()))
    assert [body[key] for body in endpoint.bodies] == [value, value]
