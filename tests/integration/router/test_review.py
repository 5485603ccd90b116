"""Requests that could harm other callers, or get a student's completion where the teacher must answer."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from redistill.serving.router.plan import Live
from tests.integration.router.test_faults import text_of
from tests.routers import ENGINE, LABELS, QUICK, STUDENT, SURE, TEACHER, TEXT, running

FEW = replace(QUICK, breaker_failures=1, breaker_s=0.1)


def test_a_bad_request_does_not_take_the_place_of_the_probe() -> None:
    async def check() -> None:
        async with running(TEACHER, teacher="flaky-2:fee", params=FEW) as router:
            assert (await router.ask()).status == 503
            while router.parts.models.upstreams["teacher"].retry_after() > 0.0:
                await asyncio.sleep(0.01)
            assert (await router.ask(max_tokens=-1)).status == 400
            assert (await router.ask()).status == 200, "the next request tries the server"

    asyncio.run(check())


@pytest.mark.parametrize("stream", [False, True])
def test_a_callers_short_deadline_is_no_failure_of_a_server(stream: bool) -> None:
    async def check() -> None:
        async with running(STUDENT, student="slow-first", teacher="ok:fee", params=replace(FEW, breaker_s=30.0, student_s=20.0)) as router:
            for _ in range(3):
                response = await router.ask(stream=stream, headers={"X-Redistill-Deadline-S": "2"})
                assert response.status == 200 and router.last["route"] == "teacher", "half of the time is left for the teacher"
            assert router.parts.models.upstreams["student"].breaker.state(0.0) == "closed"
            assert (await router.ask(headers={"X-Redistill-Route": "teacher"})).status == 200

    asyncio.run(check())


def test_a_request_that_ends_its_server_is_not_sent_again() -> None:
    async def check() -> None:
        async with running(STUDENT, student="reset") as router:
            await router.ask()
            assert router.student.asked["reset"] == 1 and router.last["failures"] == ["student broke-off"]

    asyncio.run(check())


def test_an_empty_completion_opens_no_breaker() -> None:
    async def check() -> None:
        async with running(STUDENT, student="empty", teacher="empty", params=replace(FEW, breaker_s=30.0)) as router:
            await router.ask()
            assert {each.breaker.state(0.0) for each in router.parts.models.upstreams.values()} == {"closed"}

    asyncio.run(check())


def test_a_completion_that_breaks_the_grammar_helps_nobody() -> None:
    async def check() -> None:
        async with running(SURE, student="ok:balderdash", teacher="status-500", help_when_down=True) as router:
            assert (await router.ask()).status == 503, "the teacher is down, and the student's completion is malformed"
            router.holder["live"] = Live(replace(STUDENT, teacher_slices=("s",)), readable=True, unverified="", engine=ENGINE)
            assert (await router.ask(redistill={"slice": "s"})).status == 503, "the teacher always answers these slices"

    asyncio.run(check())


@pytest.mark.parametrize("score", ["min_margin", "label_entropy"])
def test_a_score_without_a_second_token_is_not_sure(score: str) -> None:
    async def check() -> None:
        assert SURE.cascade is not None
        route = replace(SURE, cascade=replace(SURE.cascade, score=score, threshold=-9.0))
        async with running(route, student="no-top-logprobs:card") as router:
            await router.ask()
            assert (router.last["route"], router.last["reason"]) == ("teacher", "unsure")

    asyncio.run(check())


def test_the_key_of_the_router_itself_is_no_business_of_callers() -> None:
    async def check() -> None:
        async with running(TEACHER, teacher="status-401") as router:
            response = await router.ask()
            assert response.status == 503 and "401" in await response.text(), "a wrong key at the teacher's server is an outage"

    asyncio.run(check())


@pytest.mark.parametrize(
    "body",
    [
        {"stream": "false"},
        {"logprobs": "x"},
        {"logprobs": True, "top_logprobs": 99},
        {"max_tokens": "9"},
        {"redistill": 3},
        {"messages": "hello"},
    ],
)
def test_what_cannot_be_read_is_a_400(body: dict[str, Any]) -> None:
    async def check() -> None:
        for route in (SURE, TEACHER):
            async with running(route) as router:
                response = await router.session.post(
                    f"{router.url}/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}], **body}
                )
                assert response.status == 400 and "message" in (await response.json())["error"]

    asyncio.run(check())


def test_null_means_the_default_also_for_top_logprobs() -> None:
    async def check() -> None:
        async with running(SURE) as router:
            response = await router.ask(logprobs=True, top_logprobs=None, temperature=None)
            assert response.status == 200 and router.student.bodies["ok"]["temperature"] == 0.0
            assert json.loads(await response.read())["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []

    asyncio.run(check())


def test_a_stream_hides_reasoning_as_a_whole_completion_does() -> None:
    async def check() -> None:
        for stream in (False, True):
            async with running(STUDENT, student="ok:<think>a plan</think> hello", data=TEXT) as router:
                assert text_of(await (await router.ask(stream=stream)).read(), stream=stream) == "hello"

    asyncio.run(check())


def test_slow_callers_give_their_place_back() -> None:
    async def check() -> None:
        async with running(STUDENT, params=replace(QUICK, total_s=1.0, max_open=2)) as router:
            host, port = router.url.removeprefix("http://").split(":")
            head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
            slow = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
            for _, writer in slow:
                writer.write(head)
            for reader, writer in slow:
                assert b" 503 " in await asyncio.wait_for(reader.readline(), 30.0)
                writer.close()
            assert (await router.ask()).status == 200

    asyncio.run(check())


def test_a_body_over_a_megabyte_passes() -> None:
    async def check() -> None:
        wide = replace(QUICK, total_s=10.0)
        async with running(STUDENT, data=LABELS, params=wide) as router:
            response = await router.ask("x" * (2 << 20))
            assert response.status == 200 and router.last["reason"] == "not-trained"

    asyncio.run(check())
