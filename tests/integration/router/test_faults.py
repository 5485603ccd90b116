"""Each fault of a model's server, before and after the first byte, in streams and not: nothing hangs, and nothing stays open."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from tests.fault_models import FAULTS
from tests.routers import LABELS, QUICK, STUDENT, SURE, TEXT, running, settled


def at_work() -> int:
    """Tasks of this loop, without those that wait for the next request of a kept connection."""
    return sum("RequestHandler.start" not in repr(task) for task in asyncio.all_tasks())


HANGS_S = 25.0
"""Less than a fault of ``tests.fault_models`` lasts, and much more than a limit of the router."""
LATE = tuple(fault for fault in FAULTS if fault.endswith("-late"))
EARLY = tuple(fault for fault in FAULTS if not fault.endswith("-late"))


def text_of(raw: bytes, *, stream: bool) -> str:
    if not stream:
        return str(json.loads(raw)["choices"][0]["message"]["content"])
    events = [json.loads(e[6:]) for e in raw.decode().split("\n\n") if e.startswith("data: ") and e != "data: [DONE]"]
    assert raw.endswith(b"data: [DONE]\n\n")
    return "".join(c["delta"].get("content") or "" for e in events for c in e.get("choices", ()))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_student_that_fails_is_answered_for_by_the_teacher(fault: str, stream: bool) -> None:
    async def check() -> None:
        async with running(SURE, student=fault) as router:
            response = await asyncio.wait_for(router.ask(stream=stream), HANGS_S)
            assert response.status == 200 and text_of(await response.read(), stream=stream) == "fee"
            assert response.headers["X-Redistill-Route"] == "teacher"
            line = router.last
            assert (line["route"], line["ended"], len(line["failures"])) == ("teacher", "done", 1)
            assert line["reason"].startswith("student-") and response.headers["X-Redistill-Failed"] == line["failures"][0]
            await settled(router)

    asyncio.run(check())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_teacher_that_fails_is_a_503_with_a_time_to_come_again(fault: str, stream: bool) -> None:
    async def check() -> None:
        async with running(STUDENT, student="status-500", teacher=fault, params=replace(QUICK, total_s=2.0)) as router:
            response = await asyncio.wait_for(router.ask(stream=stream), HANGS_S)
            assert response.status == (429 if fault == "status-429" else 503)
            assert int(response.headers["Retry-After"]) == (7 if fault == "status-429" else 1)
            assert json.loads(await response.read())["error"]["type"] == "upstream_unavailable"
            await settled(router)

    asyncio.run(check())


@pytest.mark.parametrize("fault", EARLY)
def test_a_stream_of_free_text_falls_back_until_its_first_byte(fault: str) -> None:
    async def check() -> None:
        async with running(STUDENT, student=fault, teacher="ok:a whole text", data=TEXT) as router:
            response = await asyncio.wait_for(router.ask(stream=True), HANGS_S)
            assert response.status == 200 and text_of(await response.read(), stream=True) == "a whole text"
            assert response.headers["X-Redistill-Route"] == "teacher"
            await settled(router)

    asyncio.run(check())


@pytest.mark.parametrize("side", ["student", "teacher"])
@pytest.mark.parametrize("fault", LATE)
def test_a_stream_that_breaks_after_its_first_byte_says_so_and_nobody_else_goes_on(fault: str, side: str) -> None:
    async def check() -> None:
        models = {"student": "ok:never", "teacher": "ok:never", side: fault}
        route = STUDENT if side == "student" else replace(STUDENT, pin="teacher")
        async with running(route, data=TEXT, **models) as router:
            response = await asyncio.wait_for(router.ask(stream=True), HANGS_S)
            raw = (await response.read()).decode()
            assert response.status == 200 and '"content":"ca"' in raw and "never" not in raw
            assert "[DONE]" not in raw and json.loads(raw.rstrip().rpartition("data: ")[2])["error"]["code"] == "stream_broken"
            assert router.last["route"] == side and router.last["ended"] not in ("done", "left")
            await settled(router)

    asyncio.run(check())


@pytest.mark.parametrize("stream", [False, True])
def test_one_event_that_is_no_json_does_not_end_a_stream(stream: bool) -> None:
    async def check() -> None:
        async with running(STUDENT, student="bad-event:two parts", data=TEXT) as router:
            response = await router.ask(stream=stream)
            assert text_of(await response.read(), stream=stream) == "two parts" and router.last["route"] == "student"

    asyncio.run(check())


@pytest.mark.parametrize("fault", ["null-logprobs", "no-top-logprobs"])
def test_a_server_that_does_not_say_how_sure_it_is_is_never_sure(fault: str) -> None:
    async def check() -> None:
        async with running(SURE, student=f"{fault}:card") as router:
            await router.ask()
            assert (router.last["route"], router.last["reason"], router.last["score"]) == ("teacher", "unsure", None)

    asyncio.run(check())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("which", ["student", "teacher"])
def test_a_caller_who_leaves_ends_the_work(which: str, stream: bool) -> None:
    async def check() -> None:
        slow = replace(QUICK, student_s=20.0, first_token_s=20.0, total_s=20.0)
        models = {"student": "status-500", "teacher": "slow-first", which: "slow-first"}
        async with running(STUDENT, params=slow, **models) as router:
            asking = asyncio.ensure_future(router.ask(stream=stream))
            server: Any = getattr(router, which)
            while not server.open:
                await asyncio.sleep(0.01)
            asking.cancel()
            await settled(router)
            assert server.cancelled == 1 and router.last["ended"] == "left"

    asyncio.run(check())


def test_nothing_is_left_behind() -> None:
    async def check() -> None:
        async with running(SURE) as router:
            before = at_work()
            for fault in FAULTS:
                for stream in (False, True):
                    body = {"stream": stream, "redistill": {"key": fault}}
                    await router.ask(**body)
            await settled(router)
            assert at_work() <= before
            clients = [upstream.client for upstream in router.parts.models.upstreams.values()]
            assert all(client.open == set(client.idle) for client in clients), "every connection was given back or closed"

    asyncio.run(check())


def test_an_outage_of_both_is_told_at_once() -> None:
    async def check() -> None:
        few = replace(QUICK, breaker_failures=1, breaker_s=30.0)
        async with running(SURE, student="status-500", teacher="status-500", params=few) as router:
            await router.ask()
            asked = dict(router.student.asked), dict(router.teacher.asked)
            response = await router.ask()
            assert response.status == 503 and int(response.headers["Retry-After"]) >= 29
            assert (dict(router.student.asked), dict(router.teacher.asked)) == asked, "neither server is asked"

    asyncio.run(check())


def test_labels_are_held_until_they_are_whole() -> None:
    async def check() -> None:
        async with running(STUDENT, student="ok:balderdash", data=LABELS) as router:
            response = await router.ask(stream=True)
            assert text_of(await response.read(), stream=True) == "fee" and router.last["reason"] == "malformed"

    asyncio.run(check())
