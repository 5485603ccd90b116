"""The flag is read within a second, and a student gets traffic only when its server was proved to serve the version that the flag trusts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from redistill.data.types import Message, Prompt
from redistill.errors import RegistryError
from redistill.evaluation.types import Confidence
from redistill.serving.route_flag import write_route
from redistill.serving.router.live import Watch
from redistill.serving.router.proof import Proof, listed, proved
from redistill.serving.router.shown import shown_to
from redistill.serving.router.upstream import Upstream
from redistill.serving.router.version_check import VersionCheck
from redistill.serving.types import KnownCompletion, Route, ServedVersion
from tests.fault_models import FaultModels
from tests.routers import CASCADE, ENGINE, LABELS, QUICK, STUDENT, SURE, TEACHER


def known(text: str, score: float, count: int = 4) -> tuple[KnownCompletion, ...]:
    prompts = (Prompt.of((Message("user", f"message {n}"),), str(n), "", None, "x") for n in range(count))
    return tuple(KnownCompletion(p, text, (Confidence("sum_logprob", score),)) for p in prompts)


@asynccontextmanager
async def server(model: str, names: tuple[str, ...] = ("tickets@7",)) -> AsyncIterator[tuple[FaultModels, Upstream, Any]]:
    models = FaultModels(names)
    running = TestServer(models.app())
    await running.start_server()
    upstream = Upstream("student", str(running.make_url("/v1")), "", replace(QUICK, student_dtype="bfloat16"))
    try:
        async with upstream:
            yield models, upstream, shown_to(model, LABELS, 16)
    finally:
        await running.close()


@pytest.mark.parametrize(
    ("model", "version", "problem"),
    [
        ("ok:card:-0.01", ServedVersion("7", "tickets@7", known("card", -0.02)), ""),
        ("ok:card:-0.04", ServedVersion("7", "tickets@7", known("card", -0.02)), ""),
        ("ok:card:-0.01", ServedVersion("8", "tickets@8", known("card", -0.02)), "lists 'tickets@7', and not tickets@8"),
        (
            "ok:fee:-0.01",
            ServedVersion("7", "tickets@7", known("card", -0.02)),
            "0 of 4 known prompts as tickets@7 did; a completion has another text",
        ),
        (
            "ok:card:-0.5",
            ServedVersion("7", "tickets@7", known("card", -0.02)),
            "sum_logprob of a completion is -1.000 and was -0.020, more than 0.1 apart",
        ),
        ("null-logprobs:card", ServedVersion("7", "tickets@7", known("card", -0.02)), "0 of 4 known prompts"),
        ("ok:card:-0.01", ServedVersion("7", "tickets@7"), "no known completion of this version is on this machine"),
        ("status-500", ServedVersion("7", "tickets@7", known("card", -0.02)), "does not complete a known prompt (status)"),
    ],
)
def test_a_server_must_prove_what_it_serves(model: str, version: ServedVersion, problem: str) -> None:
    async def check() -> None:
        async with server(model) as (_, upstream, shown):
            proof = await proved(upstream, shown, version, CASCADE, LABELS)
            assert proof.problem == problem or (problem and problem in proof.problem)
            if not problem:
                assert proof.engine == ENGINE

    asyncio.run(check())


@pytest.mark.parametrize(
    ("names", "dtype"),
    [
        (("tickets@7", "tickets@7:float32"), "float32"),
        (("tickets@7:bfloat16", "tickets@7"), "bfloat16"),
        # Where the server says nothing of this version, the setting counts.
        (("tickets@7",), "bfloat16"),
        (("tickets@7", "tickets@8:float32", "tickets@70:float32"), "bfloat16"),
        # It says something that was not measured.
        (("tickets@7", "tickets@7:fp8"), "fp8"),
        (("tickets@7", "tickets@7:"), "none"),
        (("tickets@7", "tickets@7:float32", "tickets@7:bfloat16"), "bfloat16 and float32"),
    ],
)
def test_the_number_format_is_what_the_server_says(names: tuple[str, ...], dtype: str) -> None:
    async def check() -> None:
        async with server("ok:card:-0.01", names) as (_, upstream, _shown):
            assert (await listed(upstream, ServedVersion("7", "tickets@7"))).engine == replace(ENGINE, dtype=dtype)

    asyncio.run(check())


@pytest.mark.parametrize(
    ("proof", "line"),
    [
        (Proof("", ENGINE), "version 7 is verified and may answer"),
        (Proof("it lists nothing"), "version 7 does not get traffic: it lists nothing"),
        (Proof("", replace(ENGINE, dtype="float16")), "the threshold of the cascade was not measured for vllm 0.32.0 (float16)\n"),
        (
            Proof("", replace(ENGINE, dtype="auto")),
            "not measured for vllm 0.32.0 (auto); start its server with `redistill serve-model student`",
        ),
        (Proof(""), "not measured for its server, which names no engine and no version; start it with"),
    ],
)
def test_what_a_proof_means_for_a_cascade_is_said_once(proof: Proof, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def prove(version: ServedVersion, route: Route, before: Proof) -> Proof:
        return proof

    check = VersionCheck(lambda version: ServedVersion(version, "tickets@7"), prove, prove)
    asyncio.run(check.run(SURE))
    assert line in capsys.readouterr().err
    asyncio.run(check.run(SURE))
    assert capsys.readouterr().err == ""


def test_a_pin_to_the_student_needs_no_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    async def prove(version: ServedVersion, route: Route, before: Proof) -> Proof:
        return Proof("")

    check = VersionCheck(lambda version: ServedVersion(version, "tickets@7"), prove, prove)
    asyncio.run(check.run(replace(SURE, pin="student")))
    assert "version 7 is verified and may answer" in capsys.readouterr().err


async def until(condition: Callable[[], bool], limit_s: float = 20.0) -> float:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    while not condition():
        assert loop.time() - begin < limit_s
        await asyncio.sleep(0.01)
    return loop.time() - begin


def test_the_watch_follows_the_flag_and_what_is_not_verified_never_answers(tmp_path: Path) -> None:
    flags, verified = tmp_path / "flags.json", list[str]()

    def verify(version: str) -> ServedVersion:
        verified.append(version)
        if version == "9":
            raise RegistryError("version 9 cannot be verified: its signature is wrong")
        return ServedVersion(version, f"tickets@{version}", known("card", -0.02))

    async def check() -> None:
        async with server("ok:card:-0.01") as (models, upstream, shown):

            async def prove(version: ServedVersion, route: Route, before: Proof) -> Proof:
                return await proved(upstream, shown, version, route.cascade, LABELS)

            async def look(version: ServedVersion, route: Route, before: Proof) -> Proof:
                return await listed(upstream, version)

            watch = Watch(flags, verify, prove, look)
            assert not watch.live.readable and watch.live.route.answers == "teacher", "no file, so the teacher"
            running = asyncio.ensure_future(watch.run())
            write_route(flags, SURE)
            await until(lambda: watch.live.unverified == "" and watch.live.route == SURE)
            assert watch.live.engine == ENGINE
            write_route(flags, replace(SURE, pin="teacher"))
            await until(lambda: watch.live.route.answers == "teacher")
            write_route(flags, replace(SURE, model_version="9"))
            await until(lambda: "signature is wrong" in watch.live.unverified)
            models.listed = ("tickets@8",)
            write_route(flags, replace(STUDENT, model_version="8"))
            await until(lambda: watch.live.unverified == "" and watch.live.route.model_version == "8")
            flags.write_text("{", encoding="utf-8")
            await until(lambda: not watch.live.readable)
            write_route(flags, TEACHER)
            await until(lambda: watch.live.readable)
            running.cancel()
            assert verified == ["7", "9", "8"]

    asyncio.run(check())


def test_a_slow_check_does_not_delay_the_flag(tmp_path: Path) -> None:
    flags = tmp_path / "flags.json"

    async def check() -> None:
        begun = asyncio.Event()

        async def prove(version: ServedVersion, route: Route, before: Proof) -> Proof:
            begun.set()
            await asyncio.sleep(300)
            return Proof("")

        write_route(flags, SURE)
        watch = Watch(flags, lambda version: ServedVersion(version, "tickets@7"), prove, prove)
        running = asyncio.ensure_future(watch.run())
        await asyncio.wait_for(begun.wait(), 20.0)
        write_route(flags, TEACHER)
        await until(lambda: watch.live.route.answers == "teacher")
        running.cancel()

    asyncio.run(check())
