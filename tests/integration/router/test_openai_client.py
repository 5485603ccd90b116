"""What else OpenAI's own client can do, unchanged against the router: raw responses, cancelled streams, its timeout, its errors."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.routers import QUICK, STUDENT, SURE, TEACHER, TEXT, running, settled

ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "lost"}]}


def client_of(url: str, **options: Any) -> Any:
    from openai import AsyncOpenAI

    return AsyncOpenAI(base_url=f"{url}/v1", api_key=options.pop("api_key", "k"), max_retries=0, **options)


def test_a_raw_response_shows_the_headers_and_is_parsed_afterwards() -> None:
    async def check() -> None:
        async with running(SURE, student="ok:card:-0.4") as router:
            client = client_of(router.url)
            raw = await client.chat.completions.with_raw_response.create(**ASKED)
            assert raw.headers["X-Redistill-Route"] == "teacher" and raw.headers["X-Redistill-Reason"].startswith("unsure")
            assert raw.request_id == router.last["id"] == raw.headers["X-Request-Id"]
            assert raw.parse().choices[0].message.content == "fee"
            async with client.chat.completions.with_streaming_response.create(**ASKED, stream=True) as streaming:
                assert streaming.headers["X-Redistill-Route"] == "teacher"
                lines = [line async for line in streaming.iter_lines() if line]
            assert lines[-1] == "data: [DONE]" and all(line.startswith("data: ") for line in lines)

    asyncio.run(check())


@pytest.mark.parametrize("ending", ["closed", "cancelled"])
def test_a_stream_that_the_client_gives_up_ends_the_work_at_the_models_server(ending: str) -> None:
    async def check() -> None:
        slow = replace(QUICK, first_token_s=60.0, between_tokens_s=60.0, total_s=60.0)
        async with running(TEACHER, teacher="stall-late:my long text", data=TEXT, params=slow) as router:
            client = client_of(router.url)

            async def read(begun: asyncio.Event) -> None:
                stream = await client.chat.completions.create(**ASKED, stream=True)
                async for part in stream:
                    if part.choices[0].delta.content:
                        begun.set()
                        if ending == "closed":
                            break
                await stream.close()

            begun = asyncio.Event()
            reading = asyncio.ensure_future(read(begun))
            await asyncio.wait_for(begun.wait(), 20.0)
            if ending == "cancelled":
                reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await settled(router)
            assert router.teacher.cancelled == 1 and router.last["ended"] == "left"

    asyncio.run(check())


@pytest.mark.parametrize("stream", [False, True])
def test_the_clients_timeout_is_the_requests_deadline_and_leaves_the_teacher_its_half(stream: bool) -> None:
    async def check() -> None:
        patient = replace(QUICK, student_s=60.0, total_s=120.0)
        async with running(STUDENT, student="slow-headers", params=patient) as router:
            client = client_of(router.url, timeout=6.0)
            answer = await client.chat.completions.create(**ASKED, stream=stream)
            text = "".join([p.choices[0].delta.content or "" async for p in answer]) if stream else answer.choices[0].message.content
            # The client got its answer, so the student had less than what the client waits.
            assert text == "fee" and router.last["failures"] == ["student timeout"]

    asyncio.run(check())


def test_the_client_raises_its_own_errors() -> None:
    async def check() -> None:
        import openai

        async with running(TEACHER, teacher="status-500", key="secret") as router:
            with pytest.raises(openai.AuthenticationError):
                await client_of(router.url).chat.completions.create(**ASKED)
            client = client_of(router.url, api_key="secret")
            with pytest.raises(openai.InternalServerError) as failed:
                await client.chat.completions.create(**ASKED)
            assert failed.value.status_code == 503 and "Retry-After" in failed.value.response.headers
            with pytest.raises(openai.BadRequestError, match="max_tokens"):
                await client.chat.completions.create(**ASKED, max_tokens=-1)
            with pytest.raises(openai.NotFoundError):
                await client.embeddings.create(model="m", input="text")
        async with running(TEACHER, teacher="reset-late", data=TEXT) as router:
            with pytest.raises(openai.APIError, match="stopped in the middle"):
                async for _ in await client_of(router.url).chat.completions.create(**ASKED, stream=True):
                    pass

    asyncio.run(check())
