"""What happened to other routers, each named by the public report. What has a test elsewhere in this folder is not repeated here."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

from tests.integration.router.test_faults import text_of
from tests.routers import QUICK, STUDENT, SURE, TEACHER, TEXT, running

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]


def events(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(e[6:]) for e in raw.decode().split("\n\n") if e.startswith("data: {")]


def test_a_compressed_reply_is_not_passed_on_with_its_old_encoding() -> None:
    """open-webui#23920."""

    async def check() -> None:
        for route in (STUDENT, TEACHER):
            async with running(route, student="gzip", teacher="gzip") as router:
                for body in ({}, {"tools": TOOLS}):
                    response = await router.ask(**body)
                    assert response.status == 200 and "Content-Encoding" not in response.headers
                    assert json.loads(await response.read())["choices"][0]["message"]["content"] == "card"
                assert router.teacher.headers["gzip"]["Accept-Encoding"] == "identity"

    asyncio.run(check())


def test_a_stream_says_which_model_wrote_it_after_a_fallback() -> None:
    """litellm#31722."""

    async def check() -> None:
        async with running(STUDENT, student="status-500", data=TEXT) as router:
            response = await router.ask(stream=True)
            assert {e["model"] for e in events(await response.read())} == {"ok:fee"} and response.headers["X-Redistill-Route"] == "teacher"

    asyncio.run(check())


def test_a_fault_after_the_first_byte_counts_as_one() -> None:
    """litellm#29602: late faults counted as success."""

    async def check() -> None:
        few = replace(QUICK, breaker_failures=2, breaker_s=30.0)
        async with running(STUDENT, student="stall-late", data=TEXT, params=few) as router:
            for _ in range(2):
                await router.ask(stream=True)
            assert router.parts.models.upstreams["student"].breaker.state(0.0) == "open"
            assert [line["ended"] for line in router.lines] == ["stalled", "stalled"]

    asyncio.run(check())


def test_usage_in_an_event_without_choices_is_counted_and_passed_on_where_it_was_asked_for() -> None:
    """litellm#25410, vllm#7262."""

    async def check() -> None:
        async with running(STUDENT, data=TEXT) as router:
            for options, count in (({}, 0), ({"stream_options": {"include_usage": True}}, 1)):
                raw = await (await router.ask(stream=True, **options)).read()
                assert sum("usage" in e and e["choices"] == [] for e in events(raw)) == count and router.last["tokens"] == 3

    asyncio.run(check())


def test_parts_of_tool_calls_are_passed_on_as_they_came() -> None:
    """openai-python#3203: two deltas with one index in one event."""

    async def check() -> None:
        async with running(TEACHER, teacher="tools") as router:
            raw = await (await router.ask(stream=True, tools=TOOLS)).read()
            [deltas] = [c["delta"]["tool_calls"] for e in events(raw) for c in e["choices"] if "tool_calls" in c["delta"]]
            assert [d["index"] for d in deltas] == [0, 0] and b": keep-alive" not in raw, "llm-gateway#2053: comments crash a client"

    asyncio.run(check())


def test_logprobs_in_a_stream_lose_neither_text_nor_end() -> None:
    """litellm#18801, #10686."""

    async def check() -> None:
        async with running(STUDENT, data=TEXT) as router:
            raw = await (await router.ask(stream=True, logprobs=True, top_logprobs=1)).read()
            assert text_of(raw, stream=True) == "card"
            listed = [c["logprobs"]["content"] for e in events(raw) for c in e["choices"] if c.get("logprobs")]
            assert listed and all(len(entry["top_logprobs"]) == 1 for each in listed for entry in each)
            assert [c["finish_reason"] for e in events(raw) for c in e["choices"] if c["finish_reason"]] == ["stop"]

    asyncio.run(check())


def test_a_streamed_request_has_the_same_fallbacks_as_a_whole_one() -> None:
    """litellm#25843."""

    async def check() -> None:
        for data in ({}, {"data": TEXT}):
            seen = []
            for stream in (False, True):
                async with running(STUDENT, student="status-500", **data) as router:
                    await router.ask(stream=stream)
                    seen.append((router.last["route"], router.last["reason"], router.last["failures"]))
            assert seen[0] == seen[1] == ("teacher", "student-status", ["student status"])

    asyncio.run(check())


def test_a_score_that_the_server_does_not_report_is_seen_in_the_metrics() -> None:
    """edutelligence#622: a backend ignored top_logprobs, and everything was escalated. Such a server does not pass its proof; here it changes afterwards."""

    async def check() -> None:
        async with running(SURE, student="no-top-logprobs:card") as router:
            for _ in range(3):
                await router.ask()
            text = await (await router.session.get(f"{router.url}/metrics")).text()
            assert 'redistill_requests_total{reason="unsure",route="teacher",status="200"} 3.0' in text

    asyncio.run(check())
