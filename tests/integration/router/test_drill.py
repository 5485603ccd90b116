"""The drill through a real router: the student is off for the drill alone, and a teacher that is down is noticed."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from redistill.data.types import Message, Prompt
from redistill.io.parquet import write_records
from redistill.serving.router.decision import DRILL_HEADER
from tasks import paths
from tasks.operations.drill import DrillCheck
from tasks.serving import recorded_router
from tasks.serving.router_drill import drill_router
from tests.integration.router.test_shadow import ALL
from tests.routers import LABELS, STUDENT, TOKEN, Running, running

PARAMS: Any = SimpleNamespace(data=LABELS)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    prompts = [Prompt.of((Message("user", f"my card {n} is lost"),), str(n), "app", "card", "x") for n in range(5)]
    write_records(Path("monitor.parquet"), Prompt, prompts)
    return tmp_path


async def drilled(router: Running, token: str = TOKEN) -> list[DrillCheck]:
    recorded_router.record_router("127.0.0.1", int(router.url.rpartition(":")[2]), token)
    return await asyncio.get_running_loop().run_in_executor(None, drill_router, PARAMS, Path("monitor.parquet"))


def test_the_way_to_the_teacher_is_taken_and_nobody_else_notices() -> None:
    async def check() -> None:
        decisions: list[Any] = []
        async with running(STUDENT, params=ALL, counted=decisions.append) as router:
            checks = await drilled(router)
            assert len(checks) == 3 and all(check.passed for check in checks), checks
            assert {line["reason"] for line in router.lines} == {"drill"} and sum(router.student.asked.values()) == 0
            assert not any(d.student or d.student_failed for d in decisions), "a drill says nothing about the student"
            assert router.parts.answering.shadow.counts["student"].sampled == 0
            assert (await router.ask()).headers["X-Redistill-Route"] == "student"
            router.holder["live"] = replace(router.holder["live"], route=replace(STUDENT, pin="teacher"))
            assert all(check.passed for check in await drilled(router)), "a teacher that answers anyway"

    asyncio.run(check())


@pytest.mark.parametrize(
    ("teacher", "got"),
    [
        ("status-500", "status 503, route none, reason drill"),
        ("ok:nonsense", "a completion that the task's form does not allow"),
        ("empty", "status 503, route none"),
    ],
)
def test_a_teacher_that_is_no_help_is_noticed(teacher: str, got: str) -> None:
    async def check() -> None:
        async with running(STUDENT, teacher=teacher, help_when_down=True) as router:
            checks = await drilled(router)
            assert len(checks) == 3 and not any(check.passed for check in checks)
            assert all(check.got.startswith(got) for check in checks), checks
            assert "/readyz" in checks[0].advice and "card" not in checks[0].got
            assert sum(router.student.asked.values()) == 0, "a student that is off does not help out"

    asyncio.run(check())


def test_a_wrong_token_is_no_drill_and_the_drill_says_so() -> None:
    async def check() -> None:
        async with running(STUDENT) as router:
            assert (await router.ask(headers={DRILL_HEADER: "guessed"})).headers["X-Redistill-Route"] == "student"
            checks = await drilled(router, "of an earlier start")
            assert not checks[0].passed and "route student" in checks[0].got

    asyncio.run(check())


def test_a_router_of_another_machine_is_asked_for_the_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        async with running(STUDENT, key="callers-key") as router:
            monkeypatch.setenv("REDISTILL_ROUTER_URL", f"{router.url}/v1")
            ask = asyncio.get_running_loop().run_in_executor
            without = await ask(None, drill_router, PARAMS, Path("monitor.parquet"))
            assert not without[0].passed and "status 401" in without[0].got
            monkeypatch.setenv("REDISTILL_SERVE_API_KEY", "callers-key")
            checks = await ask(None, drill_router, PARAMS, Path("monitor.parquet"))
            assert all(check.passed for check in checks) and {line["reason"] for line in router.lines} == {"demanded"}

    asyncio.run(check())


def test_where_no_router_runs_there_is_nothing_to_ask_and_one_that_crashed_is_told() -> None:
    assert drill_router(PARAMS, Path("monitor.parquet")) == []
    recorded_router.record_router("0.0.0.0", 9, "t")
    assert stat.S_IMODE(os.stat(paths.ROUTER).st_mode) == 0o600
    [check, *_] = drill_router(PARAMS, Path("monitor.parquet"))
    assert not check.passed and "no response" in check.got
    assert not drill_router(PARAMS, Path("nowhere.parquet"))[0].passed
    recorded_router.forget_router()
    assert drill_router(PARAMS, Path("monitor.parquet")) == []


def test_a_router_that_is_not_at_loopback_gets_no_token_and_one_of_another_container_is_not_ours() -> None:
    recorded_router.record_router("192.168.1.5", 9, "t")
    router = recorded_router.running_router()
    assert router is not None and (router.url, router.token) == ("http://192.168.1.5:9", ""), (
        "it is asked with the header that demands the teacher"
    )
    tree = json.loads(paths.ROUTER.read_text(encoding="utf-8"))
    paths.ROUTER.write_text(json.dumps({**tree, "host": "another container"}), encoding="utf-8")
    assert recorded_router.running_router() is None
