"""A teacher behind any OpenAI-compatible endpoint: a vendor's API, or vLLM's own server.

Endpoints are slow, fail in many ways and cost money. So several requests run at the same time, a temporary failure is retried,
any other failure ends the run at once, and every request reserves its maximum cost before it is sent.
"""

from __future__ import annotations

import asyncio
import os
import queue
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from pydantic import SecretStr, TypeAdapter

from redistill.data.grammars.types import Form
from redistill.data.types import Message
from redistill.errors import ConfigError, TeacherError
from redistill.teacher.budget import Budget
from redistill.teacher.endings import FAILED, REFUSED, STOP
from redistill.teacher.http import Reply, send
from redistill.teacher.openai_form import keys_of
from redistill.teacher.openai_replies import read_choice
from redistill.teacher.params import GenerateParams, TeacherParams
from redistill.teacher.types import TeacherAnswer, TeacherCapabilities, TeacherRequest

URL_VARIABLE, KEY_VARIABLE = "REDISTILL_TEACHER_URL", "REDISTILL_TEACHER_API_KEY"
_BACKOFF_S, _LONGEST_WAIT_S, _CONNECT_S = 0.5, 60.0, 10.0
_PROBE = TeacherRequest("probe", 0, (Message("user", "Go on: 1, 2, 3,"),), "Go on: 1, 2, 3,", "probe")
_ADVICE = {
    401: f"the key in {KEY_VARIABLE} is missing or wrong; set it and run again",
    404: f"{URL_VARIABLE} must be the address up to /v1, and teacher.model one that the endpoint lists; correct them and run again",
}
_PENALTIES: dict[str, Any] = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "min_p": 0.0}
_NEUTRAL: dict[str, dict[str, Any]] = {
    "vllm": {**_PENALTIES, "repetition_penalty": 1.0, "top_k": -1},
    "sglang": {**_PENALTIES, "repetition_penalty": 1.0, "top_k": -1},
    "llamacpp": {**_PENALTIES, "repeat_penalty": 1.0, "top_k": 0},
}
"""Neutral values of the settings that a server would fill in from the checkpoint's generation_config or from its own defaults, by the ``owned_by`` of its
model list. They are not part of OpenAI's interface, and other endpoints may refuse a request that holds them."""
_LIMITS = ("max_tokens", "max_completion_tokens")
_MOST_TOKENS = 10**9
"""A larger count of tokens is none."""
_ABOUT_THE_PROMPT = (400, 403, 413, 422)
"""Statuses with which an endpoint refuses one prompt: its content filter, or its context. They can also mean the settings, so it is tried with another prompt."""
_REFUSED = "keep teacher.model, generate.max_tokens and generate.top_k within what the endpoint and the key allow, and run again"


class _TryAgainError(Exception):
    """A temporary failure: (reason, seconds that the endpoint asks to wait)."""


class _RefusedError(TeacherError):
    """The endpoint refuses the request with ``status``; a retry would not help. ``reason`` is what it says."""

    def __init__(self, message: str, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class _FailedError(TeacherError):
    """One request failed at each try. ``reason`` is the last failure."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class OpenAITeacher:
    """Asks ``/completions`` or, with ``chat``, ``/chat/completions``, on an event loop in a thread of its own.

    Its interface is synchronous, so that the caller can store each completion while other requests run. ``usage`` counts tokens since
    construction; ``system_fingerprint`` is the last one received.
    """

    def __init__(self, params: TeacherParams, base_url: str, api_key: str | None, *, chat: bool, vllm_ids: bool = False) -> None:
        self._params, self._chat, self._vllm_ids = params, chat, vllm_ids
        self._url, self._key = base_url.strip().rstrip("/"), SecretStr((api_key or "").strip())
        if not re.fullmatch(r"https?://[^\s@?#]+", self._url):
            raise ConfigError(f"set {URL_VARIABLE} to an http(s) address without password or query, such as http://127.0.0.1:8000/v1")
        if not re.fullmatch(r"[!-~]*", self._key.get_secret_value()):  # else the HTTP library's own error would quote it
            raise ConfigError(
                f"{KEY_VARIABLE} contains a space, control or non-ASCII character, which an HTTP header cannot contain; set it again"
            )
        self._budget = Budget(params, self._url)
        self.system_fingerprint: str | None = None
        self._capabilities: TeacherCapabilities | None = None
        self._neutral: dict[str, Any] | None = None
        self._works = False
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._thread = threading.Thread(target=self._drive, name="redistill-teacher", daemon=True)
        self._thread.start()

    @property
    def usage(self) -> Counter[str]:
        return self._budget.usage

    def capabilities(self) -> TeacherCapabilities:
        return self._capabilities or self.probe()

    def probe(self) -> TeacherCapabilities:
        """Request a few tokens without and with logprobs, to find out what the endpoint supports.

        Its documentation does not say it: endpoints refuse a large k, reduce it, or leave out logprobs without an error.
        """
        capabilities, params = TeacherCapabilities("none", 0, None), TypeAdapter(GenerateParams)
        list(self.complete([_PROBE], params.validate_python({"max_tokens": 8})))
        for k in (1, 5, 20):
            with suppress(_RefusedError):
                [answer] = self.complete([_PROBE], params.validate_python({"max_tokens": 8, "top_k": k}))
                if max(map(len, answer.top_logprobs), default=0) >= k:
                    capabilities = TeacherCapabilities("at_generation", k, None)
        self._capabilities = capabilities
        return capabilities

    def complete(self, requests: Sequence[TeacherRequest], params: GenerateParams) -> Iterator[TeacherAnswer]:
        """Yield each completion when it arrives, in any order, with at most ``teacher.max_concurrency`` requests at a time.

        A prompt that the endpoint refuses, or fails on at each of ``teacher.max_retries`` tries, has an answer without a completion, if the endpoint answers
        another prompt.

        Raises:
            TeacherError: the endpoint refuses or fails on every prompt, or the end of the budget. Completions that have arrived are yielded first.
            Open requests are cancelled. At the end of the budget the run waits for them, because they are charged.
        """
        results: queue.SimpleQueue[TeacherAnswer | Future[None]] = queue.SimpleQueue()
        asking = asyncio.run_coroutine_threadsafe(self._ask_all(requests, params, results.put), self._loop)
        asking.add_done_callback(results.put)
        try:
            while isinstance(item := results.get(), TeacherAnswer):
                yield item
            item.result()
        except CancelledError:
            raise TeacherError(
                "the teacher was closed before all requests were completed; the completions so far are stored; run again"
            ) from None
        finally:
            asking.cancel()

    def close(self) -> None:
        """Cancel open requests and end the thread; an unfinished ``complete`` then raises."""
        with suppress(RuntimeError):  # closed before
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _drive(self) -> None:
        with self._runner:
            self._loop.run_forever()

    async def _ask_all(self, requests: Sequence[TeacherRequest], params: GenerateParams, put: Callable[[TeacherAnswer], None]) -> None:
        p, key, pending = self._params, self._key.get_secret_value(), iter(requests)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        client = httpx.AsyncClient(headers=headers, limits=httpx.Limits(), timeout=httpx.Timeout(None, connect=_CONNECT_S))

        async def work() -> None:
            for request in pending:
                try:
                    put(await self._asked(client, request, params))
                except (_RefusedError, _FailedError) as failure:
                    if request is _PROBE or not await self._answers_otherwise(client, failure, params, request.form):
                        raise
                    reason = REFUSED if isinstance(failure, _RefusedError) else FAILED
                    put(TeacherAnswer(request, "", None, (), reason, None, detail=failure.reason))

        try:
            async with client:
                if self._neutral is None:
                    self._neutral = await self._neutral_settings(client)
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(p.max_concurrency, len(requests))):
                        group.create_task(work())
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _asked(self, client: httpx.AsyncClient, request: TeacherRequest, params: GenerateParams) -> TeacherAnswer:
        """The completion of one request, with retries. An empty completion is asked once more, because it may have been a hiccup."""
        p, last = self._params, ""
        for attempt in range(p.max_retries + 1):
            wait_s = 0.0
            try:
                answer = await self._try_once(client, request, params)
                self._works = True
                if answer.text.strip() or answer.finish_reason != STOP or attempt:
                    return answer
                last = "an empty completion"
            except _TryAgainError as failure:
                last, wait_s = failure.args
            if attempt < p.max_retries:
                await asyncio.sleep(wait_s + random.uniform(0.0, min(_LONGEST_WAIT_S, _BACKOFF_S * 2.0**attempt)))
            elif last == "an empty completion":
                return answer
        raise _FailedError(
            f"the teacher at {self._url} returned no usable completion for model {p.model} in {p.max_retries + 1} tries (teacher.max_retries="
            f"{p.max_retries}); last error: {last}; check the endpoint, or raise teacher.max_retries, and run again",
            last,
        )

    async def _answers_otherwise(
        self, client: httpx.AsyncClient, failure: _RefusedError | _FailedError, params: GenerateParams, form: Form | None
    ) -> bool:
        """Whether the endpoint answers a harmless prompt with the same settings, so that the failure was about the one prompt."""
        if isinstance(failure, _RefusedError) and failure.status not in _ABOUT_THE_PROMPT:
            return False
        if self._works and isinstance(failure, _RefusedError):  # it answered since the last refusal
            self._works = False
            return True
        try:
            await self._try_once(client, replace(_PROBE, form=form), params)
        except (_RefusedError, _TryAgainError):
            return False
        return True

    async def _neutral_settings(self, client: httpx.AsyncClient) -> dict[str, Any]:
        """The settings to send so that this server samples from the model's own distribution; none if it does not say what software it runs."""
        with suppress(TimeoutError, httpx.HTTPError, httpx.InvalidURL, LookupError, TypeError, AttributeError, ValueError, RecursionError):
            async with asyncio.timeout(_CONNECT_S):
                listed = (await send(client, "GET", self._url + "/models")).json()["data"]
            return next((_NEUTRAL[m["owned_by"]] for m in listed if m.get("owned_by") in _NEUTRAL), {})
        return {}

    async def _try_once(self, client: httpx.AsyncClient, request: TeacherRequest, params: GenerateParams) -> TeacherAnswer:
        body = self._body(params, request)
        reply = Reply(0, {}, b"")
        texts = [m["content"] for m in body["messages"]] if self._chat else [body["prompt"]]
        limits = [body[key] for key in _LIMITS if isinstance(body.get(key), int)]
        # A try with an unknown result (timeout, lost connection, cancelled) may be billed in full.
        spent = need = await self._budget.reserve(texts, max(limits, default=params.max_tokens))
        try:
            async with asyncio.timeout(self._params.timeout_s):
                reply = await send(client, "POST", self._url + ("/chat/completions" if self._chat else "/completions"), body)
            if not reply.is_success:
                spent = Counter()
                raise self._refusal(reply)
            answer = reply.json()
            # A server that counts no tokens would make the budget endless.
            told = {k: v for k, v in (answer.get("usage") or {}).items() if k in need and isinstance(v, int) and 0 < v < _MOST_TOKENS}
            spent = Counter({**need, **told})
            self.system_fingerprint = answer.get("system_fingerprint") or self.system_fingerprint
            if not answer.get("choices"):
                raise ValueError("no choices")
            return read_choice(request, answer["choices"][0], chat=self._chat)
        except TimeoutError:
            raise _TryAgainError(f"no response within teacher.timeout_s={self._params.timeout_s:g}", 0.0) from None
        except (httpx.RequestError, httpx.InvalidURL) as error:
            spent = Counter() if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError) else need
            raise _TryAgainError(f"{type(error).__name__} ({error})", 0.0) from None
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
            raise _TryAgainError(f"status {reply.status}, but no completion ({error}): {reply.quoted(self._key)}", 0.0) from None
        finally:
            self._budget.settle(need, spent)

    def _body(self, p: GenerateParams, request: TeacherRequest) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._params.model, "temperature": p.temperature, "top_p": p.top_p, "max_tokens": p.max_tokens}
        body |= self._neutral or {}
        body |= {"n": 1, "seed": p.seed + request.sample_index} | ({"return_tokens_as_token_ids": True} if self._vllm_ids else {})
        if self._chat:
            messages = [{"role": m.role, "content": m.content} for m in request.messages]
            # A chat model may open with a line break, or reason in many lines before it answers: a record's one line is cut out afterwards.
            stop = {"stop": list(request.stop)} if request.stop and request.stop != ("\n",) else {}
            body |= {"messages": [*messages[:-1], {**messages[-1], "content": request.prompt}]} | stop
            body |= {"logprobs": True, "top_logprobs": p.top_k} if p.top_k else {}
        else:
            body |= (
                {"prompt": request.prompt}
                | ({"stop": list(request.stop)} if request.stop else {})
                | ({"logprobs": p.top_k} if p.top_k else {})
            )
        body |= keys_of(request.form)
        return {key: value for key, value in (body | self._params.request).items() if value is not None}

    def _refusal(self, reply: Reply) -> Exception:
        status, quote, after, wait_s = reply.status, reply.quoted(self._key), reply.headers.get("Retry-After", ""), 0.0
        if status in (408, 409, 429) or status >= 500:
            with suppress(ValueError, TypeError):  # neither seconds nor a date, so no wait is requested
                wait_s = float(after) if re.fullmatch(r"[\d.]+", after) else parsedate_to_datetime(after).timestamp() - time.time()
            return _TryAgainError(f"status {status}: {quote}", min(max(wait_s, 0.0), _LONGEST_WAIT_S))
        why = _ADVICE.get(status, f"it says {quote}; {_REFUSED}")  # never the text of a 401 response, which quotes a part of the key
        if status == 404:
            chat = "" if self._chat else "; an endpoint that only chats needs data.format: chat"
            why = f"it says {quote}; {why}{chat}"
        said = f"status {status}" + ("" if status == 401 else f": {quote}")
        return _RefusedError(f"the teacher at {self._url} returned status {status} for model {self._params.model}: {why}", status, said)


def from_environment(params: TeacherParams, chat: bool) -> OpenAITeacher:
    """The teacher at ``REDISTILL_TEACHER_URL``: addresses and secrets are never in a file that git sees."""
    return OpenAITeacher(params, os.environ.get(URL_VARIABLE, ""), os.environ.get(KEY_VARIABLE), chat=chat)
