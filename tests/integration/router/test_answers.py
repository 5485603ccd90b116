"""What a caller gets in each mode, from OpenAI's own client and by hand: who answered, why, and nothing else than a server of models would send."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from redistill.serving.router.asked import Trained, system_digest
from redistill.serving.router.plan import Live
from tests.routers import ENGINE, LABELS, QUICK, STUDENT, SURE, TEACHER, TEXT, running, settled

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]


ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "lost"}]}


def test_the_async_openai_client_reads_every_answer() -> None:
    async def check() -> None:
        from openai import AsyncOpenAI

        async with running(SURE, student="ok:card:-0.01") as router:
            client = AsyncOpenAI(base_url=f"{router.url}/v1", api_key="k")
            whole = await client.chat.completions.create(**ASKED)
            assert (whole.choices[0].message.content, whole.choices[0].finish_reason, whole.usage.total_tokens) == ("card", "stop", 12)
            stream = await client.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True})
            parts = [part async for part in stream]
            assert "".join(c.delta.content or "" for p in parts for c in p.choices) == "card"
            assert parts[-1].usage is not None and parts[-1].usage.completion_tokens == 3 and not parts[-1].choices
            assert [m.id async for m in client.models.list()] == ["tickets"]

    asyncio.run(check())


def test_the_openai_client_reads_every_answer() -> None:
    def ask(url: str) -> tuple[str | None, str, str, list[str]]:
        from openai import OpenAI

        client = OpenAI(base_url=f"{url}/v1", api_key="k")
        whole = client.chat.completions.create(**ASKED)
        parts = list(client.chat.completions.create(**ASKED, stream=True))
        plain = client.completions.create(model="m", prompt="lost")
        text = "".join(c.delta.content or "" for p in parts for c in p.choices)
        return whole.choices[0].message.content, text, plain.choices[0].text, [m.id for m in client.models.list().data]

    async def check() -> None:
        async with running(SURE, student="ok:card:-0.01") as router:
            assert await asyncio.to_thread(ask, router.url) == ("card", "card", "card", ["tickets"])

    asyncio.run(check())


@pytest.mark.parametrize(
    ("route", "student", "answered"),
    [
        (TEACHER, "ok", ("teacher", "mode")),
        (STUDENT, "ok", ("student", "mode")),
        (replace(STUDENT, pin="teacher"), "ok", ("teacher", "pin")),
        (replace(TEACHER, pin="student", model_version="7"), "ok", ("student", "pin")),
        (SURE, "ok:card:-0.01", ("student", "sure")),
        (SURE, "ok:card:-0.4", ("teacher", "unsure")),
        (replace(STUDENT, share=0.0), "ok", ("teacher", "share")),
        (replace(STUDENT, teacher_slices=("business",)), "ok", ("teacher", "slice")),
        (replace(STUDENT, teacher_slices=("private",)), "ok", ("student", "mode")),
    ],
)
def test_the_flag_decides_who_answers(route: Any, student: str, answered: tuple[str, str]) -> None:
    async def check() -> None:
        async with running(route, student=student) as router:
            response = await router.ask(redistill={"slice": "business"})
            headers = response.headers
            assert (headers["X-Redistill-Route"], headers["X-Redistill-Reason"].partition(":")[0]) == answered
            assert headers["X-Redistill-Model-Version"] == ("7" if answered[0] == "student" else "ok:fee")
            tree = json.loads(await response.read())
            assert tree["choices"][0]["message"]["content"] == ("card" if answered[0] == "student" else "fee")
            assert tree["model"] == (student if answered[0] == "student" else "ok:fee")
            line = router.last
            assert (line["route"], line["reason"], line["slice"], line["status"]) == (*answered, "business", 200)
            assert "lost" not in json.dumps(line), "the log has no text"
            if answered[1] == "unsure":
                assert line["score"] == pytest.approx(-0.8)

    asyncio.run(check())


def test_a_slice_that_is_an_address_is_not_logged() -> None:
    async def check() -> None:
        async with running(STUDENT) as router:
            assert (await router.ask(redistill={"slice": "jane.roe@example.org"})).status == 200
            assert "jane" not in json.dumps(router.last) and router.last["slice"] == "[EMAIL]"

    asyncio.run(check())


@pytest.mark.parametrize(
    ("live", "reason"),
    [
        (Live(SURE, readable=False, unverified="", engine=ENGINE), "no-route"),
        (Live(SURE, readable=True, unverified="its signature is not ours", engine=ENGINE), "unverified"),
        (Live(SURE, readable=True, unverified="", engine=None), "unverified"),
        (Live(SURE, readable=True, unverified="", engine=replace(ENGINE, dtype="float16")), "unverified"),
        (Live(SURE, readable=True, unverified="", engine=replace(ENGINE, version="0.33.0")), "unverified"),
    ],
)
def test_what_is_not_proved_goes_to_the_teacher(live: Live, reason: str) -> None:
    async def check() -> None:
        async with running() as router:
            router.holder["live"] = live
            await router.ask()
            assert (router.last["route"], router.last["reason"]) == ("teacher", reason) and not router.student.asked

    asyncio.run(check())


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"tools": TOOLS}, "it has 'tools'"),
        ({"a_new_field": 1}, "it has 'a_new_field'"),
        ({"stop": [" lost"]}, "it has 'stop'"),
        ({"min_tokens": 5}, "it has 'min_tokens'"),
        ({"return_tokens_as_token_ids": True}, "it has 'return_tokens_as_token_ids'"),
        ({"add_generation_prompt": False}, "it has 'add_generation_prompt'"),
        ({"n": 2}, "it has 'n'"),
        ({"response_format": {"type": "json_object"}}, "it has 'response_format'"),
        ({"messages": [{"role": "system", "content": "Be rude."}, {"role": "user", "content": "x"}]}, "another system message"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]}, "more than text"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]},
            "3 messages",
        ),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}, "do not alternate"),
        ({"messages": [{"role": "user", "content": "a", "name": "Ann"}]}, "more than text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}, "text": "what is this"}]}]},
            "more than text",
        ),
        ({"messages": [{"role": "user", "content": "x" * 3000}]}, "longer than 2000"),
        ({"presence_penalty": 0.5}, "it has 'presence_penalty'"),
        ({"temperature": 0.7}, "asks for sampling"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_student_was_not_trained_for_goes_to_the_teacher(body: dict[str, Any], detail: str, stream: bool) -> None:
    async def check() -> None:
        async with running(SURE) as router:
            sent = {"messages": [{"role": "user", "content": "x"}], **body}
            response = await router.session.post(
                f"{router.url}/v1/chat/completions", json={"model": "m", "stream": stream, "user": "u", **sent}
            )
            await response.read()
            assert response.status == 200 and not router.student.asked
            assert router.last["reason"] == "not-trained" and detail in response.headers["X-Redistill-Reason"]
            if detail:
                seen = router.teacher.bodies["ok:fee"]
                assert seen["messages"] == sent["messages"] and seen["user"] == "u", "it is sent as it came"

    asyncio.run(check())


def test_fields_that_change_nothing_pass_and_those_of_the_router_do_not() -> None:
    async def check() -> None:
        async with running(STUDENT) as router:
            await router.ask(
                priority=3, metadata={"a": "b"}, user="u", redistill={"slice": "s"}, max_completion_tokens=5, temperature=None, n=1
            )
            seen = router.student.bodies["ok"]
            assert (seen["priority"], seen["metadata"], seen["max_tokens"]) == (3, {"a": "b"}, 5) and "redistill" not in seen
            assert seen["stop"] == ["\n"] and seen["temperature"] == 0.0 and "n" not in seen, "null is no reason to sample"
            assert seen["prompt"] == "my card is lost\n=>" and "messages" not in seen

    asyncio.run(check())


def test_a_caller_may_demand_the_teacher_and_only_that() -> None:
    async def check() -> None:
        async with running(STUDENT) as router:
            await router.ask(headers={"X-Redistill-Route": "teacher"})
            assert (router.last["route"], router.last["reason"]) == ("teacher", "demanded")
            response = await router.ask(headers={"X-Redistill-Route": "student"})
            assert response.status == 400

    asyncio.run(check())


def test_a_share_is_the_same_keys_again_and_a_larger_one_has_them_too() -> None:
    async def check() -> None:
        async with running(replace(STUDENT, share=0.3)) as router:

            async def students() -> set[int]:
                chosen = set()
                for n in range(120):
                    await router.ask(redistill={"key": f"customer {n}"})
                    if router.last["route"] == "student":
                        chosen.add(n)
                return chosen

            first = await students()
            assert 15 <= len(first) <= 60 and await students() == first
            router.holder["live"] = replace(router.holder["live"], route=replace(STUDENT, share=0.6))
            assert first < await students()

    asyncio.run(check())


def test_a_teacher_that_is_down_may_be_helped_where_that_is_allowed() -> None:
    async def check() -> None:
        async with running(SURE, student="ok:card:-0.4", teacher="status-500", help_when_down=True) as router:
            response = await router.ask()
            assert response.status == 200 and "cannot be reached" in response.headers["X-Redistill-Warning"]
            assert (router.last["route"], router.last["reason"]) == ("student", "teacher-down")
            assert router.student.asked["ok:card:-0.4"] == 1, "the completion of which it was not sure is used, and not asked for again"
            assert (await router.ask(headers={"X-Redistill-Route": "teacher"})).status == 503, (
                "a caller who demands the teacher gets no student"
            )
            router.holder["live"] = replace(router.holder["live"], route=replace(SURE, pin="teacher"))
            assert (await router.ask()).status == 503, "a pin is not overridden"
            router.holder["live"] = Live(SURE, readable=True, unverified="not proved", engine=ENGINE)
            assert (await router.ask()).status == 503

    asyncio.run(check())


def test_logprobs_come_as_the_endpoint_spells_them() -> None:
    async def check() -> None:
        async with running(STUDENT) as router:
            tree = json.loads(await (await router.ask(logprobs=True, top_logprobs=1)).read())
            [first, *_] = tree["choices"][0]["logprobs"]["content"]
            assert (first["token"], first["logprob"], len(first["top_logprobs"])) == (" card", -0.01, 1)
            response = await router.session.post(f"{router.url}/v1/completions", json={"model": "m", "prompt": "lost", "logprobs": 2})
            listed = (await response.json())["choices"][0]["logprobs"]
            assert listed["tokens"][0] == " card" and listed["top_logprobs"][0] == {" card": -0.01, " other": -4.0}
            assert json.loads(await (await router.ask()).read())["choices"][0]["logprobs"] is None, "none that were not asked for"

    asyncio.run(check())


@pytest.mark.parametrize("stream", [False, True])
def test_a_refused_request_is_the_callers_and_trips_nothing(stream: bool) -> None:
    async def check() -> None:
        few = replace(QUICK, breaker_failures=1)
        async with running(STUDENT, student="status-400", teacher="status-422", params=few) as router:
            for _ in range(3):
                response = await router.ask(stream=stream)
                assert response.status == 422 and json.loads(await response.read())["error"]["message"] == "status 422"
            assert router.student.asked["status-400"] == 3 and router.teacher.asked["status-422"] == 3, "asked each time, and once"

    asyncio.run(check())


def test_a_server_that_comes_back_is_tried_by_one_request() -> None:
    async def check() -> None:
        few = replace(QUICK, breaker_failures=2, breaker_s=0.2)
        async with running(STUDENT, student="flaky-3:card", params=few) as router:
            await router.ask()
            await router.ask()
            assert router.student.asked["flaky-3:card"] == 2
            await router.ask()
            assert router.last["reason"] == "student-down" and router.student.asked["flaky-3:card"] == 2
            while router.parts.models.upstreams["student"].retry_after() > 0.0:
                await asyncio.sleep(0.01)
            await asyncio.gather(*(router.ask() for _ in range(5)))
            assert router.student.asked["flaky-3:card"] == 3, "one of five tries it"
            await router.ask()
            assert router.student.asked["flaky-3:card"] == 4 and router.parts.models.upstreams["student"].breaker.state(0.0) == "closed"

    asyncio.run(check())


def test_the_way_in_is_narrow() -> None:
    async def check() -> None:
        narrow = replace(QUICK, max_body_mb=0.001, max_open=1)
        async with running(STUDENT, params=narrow, key="secret-key", student="slow-first", teacher="ok") as router:
            assert (await router.ask()).status == 401
            headers = {"Authorization": "Bearer secret-key"}
            assert (await router.ask("x" * 2000, headers=headers)).status == 413
            first = asyncio.ensure_future(router.ask(headers=headers))
            while not router.student.open:
                await asyncio.sleep(0.01)
            second = await router.ask(headers=headers)
            assert second.status == 503 and second.headers["Retry-After"] == "1" and "serve.max_open" in (await second.text())
            await first
            for body in (b"not json", b"[]", b'{"model": "m"}', b'{"messages": []}', b'{"messages": [3]}', b"[" * 100_000):
                response = await router.session.post(f"{router.url}/v1/chat/completions", data=body[:900], headers=headers)
                assert response.status == 400 and "message" in (await response.json())["error"], body[:20]
            assert (await router.session.get(f"{router.url}/v1/nothing")).status == 404
            assert "secret-key" not in json.dumps(router.lines)
            await settled(router)

    asyncio.run(check())


def test_health_readiness_and_metrics() -> None:
    async def check() -> None:
        few = replace(QUICK, breaker_failures=1, breaker_s=30.0)
        async with running(STUDENT, teacher="status-500", params=few, trained=Trained(LABELS, 2000)) as router:
            assert (await router.session.get(f"{router.url}/healthz")).status == 200
            ready = await router.session.get(f"{router.url}/readyz")
            assert ready.status == 200 and (await ready.json())["version"] == "7"
            await router.ask()
            await router.ask(headers={"X-Redistill-Route": "teacher"})
            router.holder["live"] = Live(TEACHER, readable=True)
            assert (await router.session.get(f"{router.url}/readyz")).status == 503
            text = await (await router.session.get(f"{router.url}/metrics")).text()
            assert 'redistill_requests_total{reason="mode",route="student",status="200"} 1.0' in text
            assert 'redistill_upstream_failures_total{kind="status",upstream="teacher"} 1.0' in text
            assert 'redistill_breaker_open{upstream="teacher"} 1.0' in text and "redistill_open_requests 0.0" in text

    asyncio.run(check())


def test_a_system_message_of_the_training_rows_is_known() -> None:
    async def check() -> None:
        chats = replace(TEXT, format="chat", name="notes")
        trained = Trained(chats, 2000, frozenset({system_digest("Be brief.")}), turns=3)
        async with running(STUDENT, data=chats, trained=trained) as router:
            turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
            for system, side in (("Be brief.", "student"), ("Be rude.", "teacher"), (None, "teacher")):
                messages = [*([{"role": "system", "content": system}] if system else []), *turns]
                response = await router.session.post(f"{router.url}/v1/chat/completions", json={"messages": messages})
                await response.read()
                assert router.last["route"] == side, system

    asyncio.run(check())


def test_a_kept_connection_that_the_server_closes_is_no_failure() -> None:
    async def check() -> None:
        async with running(STUDENT, student="closes-second") as router:
            await router.ask()
            await router.ask()
            assert router.last["route"] == "student" and not router.last["failures"] and router.student.asked["closes-second"] == 3

    asyncio.run(check())
