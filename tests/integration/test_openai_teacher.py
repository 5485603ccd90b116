"""The endpoint teacher against a real server that fails on command, over real sockets."""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from redistill.data.types import Message
from redistill.errors import ConfigError, TeacherError
from redistill.teacher.http import Reply
from redistill.teacher.openai import OpenAITeacher, from_environment
from redistill.teacher.params import GenerateParams, TeacherParams
from redistill.teacher.types import TeacherCapabilities, TeacherRequest
from tests.integration.endpoints import KEY, Endpoint, failing, requests

RETRIED = ["408", "409", "429", "500", "503", "half", "html", "no_choices", "never"]


def until(condition: Callable[[], object], what: str, deadline_s: float = 3.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"waited {deadline_s} s for {what}"
        threading.Event().wait(0.01)


def test_completions_carry_what_was_configured(serve: Any, teach: Any) -> None:
    endpoint = serve("--answer", "card_lost; urgent")
    teacher = teach(endpoint.url)
    params = GenerateParams(temperature=0.7, top_p=0.9, max_tokens=32, seed=100)
    asked = TeacherRequest("p", 3, (Message("user", "raw"),), "raw\n=>", "app", ("\n",))
    [answer] = teacher.complete([asked], params)
    assert (answer.request, answer.text, answer.finish_reason) == (asked, " card_lost; urgent", "stop")
    assert (answer.reasoning, answer.token_ids, answer.mean_logprob) == (None, (), None)
    assert (answer.top_ids, answer.top_logprobs, answer.top_tokens) == ((), (), ())
    [event] = endpoint.events("asked")
    assert (event["path"], event["key"]) == ("/v1/completions", KEY)
    assert event["body"] == {
        "model": "any", "prompt": "raw\n=>", "stop": ["\n"], "temperature": 0.7, "top_p": 0.9, "max_tokens": 32, "n": 1, "seed": 103,
    }  # fmt: skip
    assert teacher.system_fingerprint == "fp_fault"
    assert teacher.usage == {"prompt_tokens": 3, "completion_tokens": 3}


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize(
    ("owner", "penalty", "all_tokens"),
    [("vllm", "repetition_penalty", -1), ("sglang", "repetition_penalty", -1), ("llamacpp", "repeat_penalty", 0)],
)
def test_a_server_that_fills_in_a_checkpoints_settings_is_told_neutral_ones(
    serve: Any, teach: Any, chat: bool, owner: str, penalty: str, all_tokens: int
) -> None:
    """vLLM takes what a request leaves out from the checkpoint's generation_config; others (the test above) refuse what they do not know."""
    endpoint = serve("--owned-by", owner)
    assert len(list(teach(endpoint.url, chat=chat).complete(requests(2), GenerateParams(temperature=0.7)))) == 2
    for event in endpoint.events("asked"):
        told = {k: event["body"][k] for k in ("presence_penalty", "frequency_penalty", "min_p", penalty, "top_k")}
        assert told == {"presence_penalty": 0.0, "frequency_penalty": 0.0, "min_p": 0.0, penalty: 1.0, "top_k": all_tokens}


def test_chat_sends_the_rendered_text_as_the_last_message(serve: Any, teach: Any) -> None:
    endpoint = serve("--reasoning", "thinking", "--fingerprint", "fp_new")
    teacher = teach(endpoint.url + "/", chat=True, key=None)
    messages = (Message("system", "be brief"), Message("user", "limit asap"))
    [answer] = teacher.complete([TeacherRequest("p", 0, messages, "limit asap\n=>", "app")], GenerateParams())
    assert (answer.text, answer.reasoning) == ("limit; urgent", "thinking")
    [event] = endpoint.events("asked")
    assert (event["path"], event["key"]) == ("/v1/chat/completions", "")
    assert event["body"]["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "limit asap\n=>"}]
    assert not {"stop", "logprobs", "top_logprobs", "prompt"} & set(event["body"])
    assert teacher.system_fingerprint == "fp_new"


LETTER = "Dear customer,\nwe have seen it.\nYours"


@pytest.mark.parametrize(
    ("chat", "stop", "told", "text"),
    [
        (False, (), None, f" {LETTER}"),
        (False, ("\n",), ["\n"], " Dear customer,"),
        (False, ("seen", "Yours"), ["seen", "Yours"], " Dear customer,\nwe have "),
        (True, (), None, LETTER),
        (True, ("\n",), None, "Dear customer,"),  # a chat model may open with a line break or reason in lines, so it is not told
        (True, ("Yours",), ["Yours"], "Dear customer,\nwe have seen it.\n"),
    ],
)
def test_answers_end_where_the_task_says_also_where_an_endpoint_goes_on(
    serve: Any, teach: Any, chat: bool, stop: tuple[str, ...], told: list[str] | None, text: str
) -> None:
    """This endpoint knows no stop sequences. What is told to it, and what is left of its answer, both follow the task."""
    endpoint = serve("--answer", LETTER)
    teacher = teach(endpoint.url, chat=chat, vllm_ids=True)
    [answer] = teacher.complete([replace(requests(1)[0], stop=stop)], GenerateParams(top_k=2))
    assert endpoint.bodies[0].get("stop") == told
    assert (answer.text, answer.finish_reason) == (text, "stop")
    assert bool(answer.token_ids) == bool(answer.top_ids) == (not stop), "ids of a longer text belong to no row"
    [short] = teacher.complete([replace(requests(1)[0], stop=("\n",))], GenerateParams(max_tokens=5))
    assert (short.text.strip(), short.finish_reason) == ("Dear customer,", "stop"), "whole before it was cut off"


def test_an_answer_cut_at_max_tokens_says_so(serve: Any, teach: Any) -> None:
    [answer] = teach(serve("--answer", "one two three").url).complete(requests(1), GenerateParams(max_tokens=2))
    assert (answer.text, answer.finish_reason) == (" one two", "length")


@pytest.mark.parametrize("chat", [False, True])
def test_logprobs_are_read_in_both_shapes(serve: Any, teach: Any, chat: bool) -> None:
    endpoint = serve("--answer", "other thing")
    [answer] = teach(endpoint.url, chat=chat).complete(requests(1), GenerateParams(top_k=3))
    asked = {key: endpoint.bodies[0].get(key) for key in ("logprobs", "top_logprobs")}
    assert asked == ({"logprobs": True, "top_logprobs": 3} if chat else {"logprobs": 3, "top_logprobs": None})
    assert answer.mean_logprob == pytest.approx(math.log(0.5))
    assert answer.top_logprobs == (pytest.approx([math.log(0.5**i) for i in (1, 2, 3)]),) * 2
    assert answer.top_tokens[1] == (" thing", " thing~1", " thing~2")
    assert (answer.token_ids, answer.top_ids) == ((), ())
    assert "return_tokens_as_token_ids" not in endpoint.bodies[0]


@pytest.mark.parametrize("chat", [False, True])
def test_vllm_tells_token_ids_when_asked(serve: Any, teach: Any, chat: bool) -> None:
    endpoint = serve("--answer", "other thing")
    [answer] = teach(endpoint.url, chat=chat, vllm_ids=True).complete(requests(1), GenerateParams(top_k=2))
    assert endpoint.bodies[0]["return_tokens_as_token_ids"] is True
    assert len(answer.token_ids) == 2
    assert [row[0] for row in answer.top_ids] == list(answer.token_ids)
    assert {len(row) for row in answer.top_ids} == {len(row) for row in answer.top_logprobs} == {2}


def test_an_endpoint_without_logprobs_still_answers(serve: Any, teach: Any) -> None:
    [answer] = teach(serve("--no-logprobs").url).complete(requests(1), GenerateParams(top_k=5))
    assert (answer.text, answer.mean_logprob, answer.top_logprobs) == (" other", None, ())


@pytest.mark.parametrize("fault", RETRIED)
def test_a_failure_that_may_pass_is_tried_again(serve: Any, teach: Any, fault: str) -> None:
    endpoint = serve(faults=[fault])
    [answer] = teach(endpoint.url, timeout_s=0.5).complete(requests(1), GenerateParams())
    assert answer.text == " other"
    assert len(endpoint.bodies) == 2
    assert endpoint.bodies[0] == endpoint.bodies[1]


def test_nan_logprobs_are_tried_again_and_never_passed_on(serve: Any, teach: Any) -> None:
    endpoint = serve(faults=["nan"])
    [answer] = teach(endpoint.url).complete(requests(1), GenerateParams(top_k=2))
    assert answer.mean_logprob == pytest.approx(math.log(0.5))
    _, text = failing(teach(serve(faults=["nan", "nan"]).url, max_retries=0), top_k=2)
    assert "log-probabilities missing, NaN, null or positive" in text


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("429", "status 429: 'fault 429'"),
        ("500", "status 500: 'fault 500'"),
        ("half", "RemoteProtocolError"),
        ("html", "status 200, but no completion (Expecting value: line 1 column 1 (char 0)): '<html><body>Please sign in"),
        ("no_choices", "no choices"),
        ("never", "no response within teacher.timeout_s=0.3"),
    ],
)
def test_a_failure_that_does_not_pass_ends_with_its_reason(serve: Any, teach: Any, fault: str, reason: str) -> None:
    # The third request is a harmless prompt: it fails as well, so the failure is not about the first one.
    endpoint = serve(faults=[fault, fault, fault])
    answers, text = failing(teach(endpoint.url, timeout_s=0.3, max_retries=1))
    assert not answers
    assert text.startswith(
        f"the teacher at {endpoint.url} returned no usable completion for model any in 2 tries (teacher.max_retries=1); last error: "
    )
    assert reason in text
    assert "raise teacher.max_retries, and run again" in text
    assert len(endpoint.bodies) == 3


def test_nobody_listens(teach: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as bound:  # bound but not listening: refuses, and nobody else can take the port
        bound.bind(("127.0.0.1", 0))
        teacher = teach(f"http://127.0.0.1:{bound.getsockname()[1]}/v1", max_retries=1, budget_tokens=100)
        _, text = failing(teacher)
    assert "in 2 tries (teacher.max_retries=1); last error: ConnectError (" in text
    assert not teacher.usage  # nothing was sent, so nothing is counted


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "it says 'fault 400'; keep teacher.model, generate.max_tokens and generate.top_k within what the endpoint and the key allow"),
        (401, "the key in REDISTILL_TEACHER_API_KEY is missing or wrong; set it and run again"),
        (403, "it says 'fault 403'; keep teacher.model"),
        (404, "it says 'fault 404'; REDISTILL_TEACHER_URL must be the address up to /v1, and teacher.model one that the endpoint lists"),
        (422, "it says 'fault 422'"),
    ],
)
def test_a_refusal_ends_the_run_at_once(serve: Any, teach: Any, status: int, advice: str) -> None:
    endpoint = serve(faults=[str(status)] * 2)
    answers, text = failing(teach(endpoint.url, max_concurrency=1), n=3)
    assert not answers
    assert text.startswith(f"the teacher at {endpoint.url} returned status {status} for model any: {advice}")
    # A status that can be about one prompt is tried with a harmless one.
    assert len(endpoint.bodies) == (1 if status in (401, 404) else 2)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_a_key_that_the_endpoint_quotes_is_not_passed_on(serve: Any, teach: Any, status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    endpoint = serve(faults=[{"status": status, "echo_key": True}] * 2)
    teacher = teach(endpoint.url, max_retries=0)
    _, text = failing(teacher)
    assert endpoint.events("asked")[0]["key"] == KEY
    assert status in (401, 404) or f"fault {status} for key [key]" in text
    assert KEY not in caplog.text
    assert KEY not in repr(teacher) + repr(vars(teacher))


@pytest.mark.parametrize(("retry_after", "least_s"), [("1", 0.98), ("date+2", 0.9)])
def test_retry_after_is_honoured(serve: Any, teach: Any, retry_after: str, least_s: float) -> None:
    endpoint = serve(faults=[{"status": 429, "retry_after": retry_after}])  # a date has whole seconds: two ahead is one to two
    [answer] = teach(endpoint.url).complete(requests(1), GenerateParams())
    first, second = (event["at"] for event in endpoint.events("asked"))
    assert answer.text == " other"
    assert least_s <= second - first < 4.0


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [("7", 7.0), ("2.5", 2.5), ("3600", 60.0), ("Wed, 21 Oct 2099 07:28:00 GMT", 60.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)]
    + [(nonsense, 0.0) for nonsense in ("", "soon", "-5", "nan", "1.2.3")],
)
def test_retry_after_is_capped_and_nonsense_is_ignored(teach: Any, value: str, wait_s: float) -> None:
    failure = teach("http://127.0.0.1:1/v1")._refusal(Reply(503, {"Retry-After": value}, b"busy"))
    assert failure.args == ("status 503: 'busy'", wait_s)


def test_answers_come_as_they_complete_and_each_once(serve: Any, teach: Any) -> None:
    endpoint = serve(faults=["never"])
    stream = teach(endpoint.url, max_concurrency=2, timeout_s=4.0).complete(asked := requests(12), GenerateParams())
    first = [next(stream) for _ in range(11)]
    assert not endpoint.events("gone")  # eleven came while one was still silent
    assert {a.request for a in first} | {a.request for a in stream} == set(asked)


@pytest.mark.parametrize("limit", [1, 3])
def test_never_more_in_flight_than_the_limit(serve: Any, teach: Any, limit: int) -> None:
    endpoint = serve("--gather", str(limit + 1), "--gather-s", "0.15")  # waits for one more than may come
    answers = list(teach(endpoint.url, max_concurrency=limit).complete(requests(2 * limit + 1), GenerateParams()))
    assert len({a.request for a in answers}) == 2 * limit + 1
    assert max(event["in_flight"] for event in endpoint.events("asked")) == limit


def test_an_error_comes_after_the_answers_that_were_paid_for(serve: Any, teach: Any) -> None:
    endpoint = serve(faults=["ok", "ok", "401"])
    answers, text = failing(teach(endpoint.url, max_concurrency=1), n=5)
    assert [a.request.prompt_id for a in answers] == ["p0", "p1"]
    assert "returned status 401" in text
    assert len(endpoint.bodies) == 3


def test_an_error_cancels_what_is_in_flight(serve: Any, teach: Any) -> None:
    endpoint = serve("--gather", "2", faults=["never", "401"])
    started = time.monotonic()
    failing(teach(endpoint.url, timeout_s=20.0), n=2)
    until(lambda: endpoint.events("gone"), "the silent request to be hung up")
    assert time.monotonic() - started < 5.0


def test_a_caller_that_stops_early_cancels_the_rest(serve: Any, teach: Any) -> None:
    endpoint = serve(faults=["ok", "never"])
    stream = teach(endpoint.url, max_concurrency=1, timeout_s=20.0).complete(requests(9), GenerateParams())
    next(stream)
    until(lambda: len(endpoint.bodies) == 2, "the second request")
    stream.close()
    until(lambda: endpoint.events("gone"), "the silent request to be hung up")
    assert len(endpoint.bodies) == 2


def test_close_ends_a_run_with_an_error_and_its_thread(serve: Any, teach: Any) -> None:
    endpoint = serve(faults=["ok", "never"])
    teacher = teach(endpoint.url, max_concurrency=1, timeout_s=20.0)
    stream = teacher.complete(requests(3), GenerateParams())
    next(stream)
    until(lambda: len(endpoint.bodies) == 2, "the second request")
    teacher.close()
    with pytest.raises(TeacherError, match="closed before all requests were completed; the completions so far are stored; run again"):
        next(stream)
    assert not [thread for thread in threading.enumerate() if thread.name == "redistill-teacher"]


def test_one_teacher_serves_one_run_after_another(serve: Any, teach: Any) -> None:
    teacher = teach(serve().url)
    assert list(teacher.complete([], GenerateParams())) == []
    assert [len(list(teacher.complete(requests(n), GenerateParams()))) for n in (1, 3)] == [1, 3]


def spent(endpoint: Endpoint) -> int:
    return sum(event["usage"]["prompt_tokens"] + event["usage"]["completion_tokens"] for event in endpoint.events("answered"))


@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_token_budget_is_never_overshot(serve: Any, teach: Any, concurrency: int) -> None:
    # One request may cost 5 + 8 + 20 tokens and does cost 5 + 1: it is given back, so that many fit into one budget.
    endpoint = serve()
    teacher = teach(endpoint.url, max_concurrency=concurrency, budget_tokens=100)
    answers, text = failing(teacher, n=40, max_tokens=20)
    assert teacher.usage.total() == spent(endpoint) <= 100
    assert len(answers) == len(endpoint.bodies) == (100 - 33) // 6 + 1
    assert f"is used up: {teacher.usage.total()} of teacher.budget_tokens=100 is spent, and the next request may need 33;" in text
    assert "all completions so far are stored; raise teacher.budget_tokens, then run again" in text
    assert failing(teacher, n=1, max_tokens=20)[0] == []  # the budget is the teacher's, not the call's


def test_requests_in_flight_cannot_overshoot_together(serve: Any, teach: Any) -> None:
    endpoint = serve("--gather", "8", "--gather-s", "0.15")
    answers, _ = failing(teach(endpoint.url, max_concurrency=8, budget_tokens=70), n=8, max_tokens=20)
    assert max(event["in_flight"] for event in endpoint.events("asked")) == 2  # 2 * 33 ≤ 70 < 3 * 33
    assert len(answers) == len(endpoint.events("answered"))


def test_the_usd_budget_is_never_overshot(serve: Any, teach: Any) -> None:
    endpoint = serve()
    prices = {"usd_per_million_prompt_tokens": 1000.0, "usd_per_million_completion_tokens": 10_000.0}
    teacher = teach(endpoint.url, max_concurrency=2, budget_usd=0.3, **prices)
    answers, text = failing(teacher, n=40, max_tokens=20)
    paid = sum(e["usage"]["prompt_tokens"] * 1e-3 + e["usage"]["completion_tokens"] * 1e-2 for e in endpoint.events("answered"))
    assert 0.3 - 0.213 < paid <= 0.3  # a request may take (5 + 8) * 0.001 + 20 * 0.01
    assert len(answers) == len(endpoint.events("answered")) > 0
    assert f"is used up: {paid:.10g} of teacher.budget_usd=0.3 is spent, and the next request may need 0.213;" in text
    assert "raise teacher.budget_usd, then run again" in text


@pytest.mark.parametrize(("options", "fault"), [(["--no-usage"], "ok"), ([], "half"), ([], "never")])
def test_a_try_of_unknown_cost_counts_in_full(serve: Any, teach: Any, options: list[str], fault: str) -> None:
    endpoint = serve(*options, faults=[fault])
    teacher = teach(endpoint.url, budget_tokens=40, max_concurrency=1, timeout_s=0.5)
    answers, text = failing(teacher, n=2, max_tokens=20)
    assert len(answers) == (fault == "ok")
    assert "33 of teacher.budget_tokens=40 is spent" in text
    assert len(endpoint.bodies) == 1


def test_an_error_status_costs_nothing(serve: Any, teach: Any) -> None:
    teacher = teach(serve(faults=["500"]).url, budget_tokens=40, max_concurrency=1)
    assert len(list(teacher.complete(requests(1), GenerateParams(max_tokens=20)))) == 1


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], TeacherCapabilities("at_generation", 20, None)),
        (["--max-logprobs", "5"], TeacherCapabilities("at_generation", 5, None)),
        (["--max-logprobs", "3"], TeacherCapabilities("at_generation", 1, None)),
        (["--no-logprobs"], TeacherCapabilities("none", 0, None)),
    ],
)
def test_the_probe_finds_what_the_endpoint_honours(
    serve: Any, teach: Any, chat: bool, options: list[str], found: TeacherCapabilities
) -> None:
    endpoint = serve(*options, "--answer", "4, 5, 6")
    teacher = teach(endpoint.url, chat=chat)
    assert teacher.capabilities() == found
    asked = len(endpoint.bodies)
    assert teacher.capabilities() == found
    assert len(endpoint.bodies) == asked  # remembered
    assert max(body["max_tokens"] for body in endpoint.bodies) <= 8
    assert teacher.probe() == found
    assert len(endpoint.bodies) == 2 * asked


def test_the_probe_tells_a_wrong_key_from_missing_logprobs(serve: Any, teach: Any) -> None:
    with pytest.raises(TeacherError, match="returned status 401"):
        teach(serve(faults=["401"]).url).capabilities()


def test_the_environment_names_the_endpoint(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    params = TeacherParams(model="any", backend="openai")
    monkeypatch.delenv("REDISTILL_TEACHER_URL", raising=False)
    monkeypatch.setenv("REDISTILL_TEACHER_API_KEY", KEY + "\n")  # as read from a file
    with pytest.raises(ConfigError, match="set REDISTILL_TEACHER_URL to an http"):
        from_environment(params, False)
    endpoint = serve()
    monkeypatch.setenv("REDISTILL_TEACHER_URL", endpoint.url)
    teacher = from_environment(params, True)
    assert len(list(teacher.complete(requests(1), GenerateParams()))) == 1
    teacher.close()
    assert [(e["path"], e["key"]) for e in endpoint.events("asked")] == [("/v1/chat/completions", KEY)]


@pytest.mark.parametrize("url", ["", "localhost:8000/v1", "ftp://host/v1", f"http://me:{KEY}@host/v1", f"http://host/v1?key={KEY}"])
def test_an_address_that_cannot_be_is_refused_unquoted(url: str) -> None:
    with pytest.raises(ConfigError, match="REDISTILL_TEACHER_URL") as caught:
        OpenAITeacher(TeacherParams(model="any"), url, None, chat=False)
    assert KEY not in repr(caught.value)


@pytest.mark.parametrize("key", [f"{KEY} x", f"{KEY}\nx", f"{KEY}é"])
def test_a_key_that_no_header_carries_is_refused_unquoted(key: str) -> None:
    with pytest.raises(ConfigError, match="REDISTILL_TEACHER_API_KEY contains") as caught:
        OpenAITeacher(TeacherParams(model="any"), "http://host/v1", key, chat=False)
    assert KEY not in repr(caught.value)


def test_a_usd_budget_needs_prices() -> None:
    with pytest.raises(ConfigError, match=r"teacher.budget_usd=5 has no effect while both prices are 0"):
        OpenAITeacher(TeacherParams(model="any", budget_usd=5.0), "http://host/v1", None, chat=False)
