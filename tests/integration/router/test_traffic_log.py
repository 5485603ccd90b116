"""The traffic log: what is kept of requests, without personal data, and what never happens to a request because of it."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from redistill.data.forgotten import Tombstone, bury, tombstone_digest
from redistill.data.traffic.shards import read_traffic, shards
from redistill.data.traffic.types import LoggedRequest
from redistill.data.types import Message, Prompt, prompt_id
from redistill.serving.router.decision import Decision
from redistill.serving.router.finished import Finished
from redistill.serving.traffic.log import TrafficLog
from redistill.serving.traffic.params import TrafficParams
from redistill.serving.traffic.writer import Target
from tests.routers import QUICK, STUDENT, SURE, TEACHER, TEXT, Running, running

SECRET, PERSON = "sk-proj-abcdefghij0123456789abcd", "jane.doe@example.org"
RULES = TrafficParams(log=True, consent="the terms of use, section 4", licence="customers' own words", shard_rows=1000, shard_s=3600.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "traffic"


def log(folder: Path, **changed: Any) -> TrafficLog:
    rules = replace(RULES, **changed)
    return TrafficLog(rules, Target(str(folder), str(folder.parent / "forgotten.jsonl"), rules.shard_rows, rules.shard_s))


async def until(condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    deadline = asyncio.get_running_loop().time() + limit_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


def logged(folder: Path) -> dict[str, LoggedRequest]:
    return {row.messages[-1].content: row for row in read_traffic(folder)}


async def metric(router: Running, name: str) -> float:
    text = await (await router.session.get(f"{router.url}/metrics")).text()
    [line] = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


def test_a_row_has_what_both_models_wrote_as_far_as_each_was_asked(folder: Path) -> None:
    async def check() -> None:
        async with running(SURE, student="ok:card:-0.1", teacher="ok:fee", traffic=log(folder)) as router:
            response = await router.ask("sure", redistill={"slice": "app"})
        async with running(SURE, student="ok:card:-3", teacher="ok:fee", traffic=log(folder)) as router:
            await router.ask("unsure")
        async with running(STUDENT, student="ok:nonsense", teacher="ok:fee", traffic=log(folder)) as router:
            await router.ask("malformed")
        async with running(TEACHER, teacher="ok:fee", traffic=log(folder)) as router:
            await router.ask("teacher", stream=True)
        rows = logged(folder)
        assert {text: (row.route, row.student, row.teacher, row.reason) for text, row in rows.items()} == {
            "sure": ("student", "card", None, "sure"),
            "unsure": ("teacher", "card", "fee", "unsure"),
            "malformed": ("teacher", "nonsense", "fee", "malformed"),
            "teacher": ("teacher", None, "fee", "mode"),
        }
        sure = rows["sure"]
        assert (sure.id, sure.slice, sure.version, sure.mode) == (response.headers["X-Request-Id"], "app", "7", "cascade")
        assert sure.score is not None and sure.prompt_id == prompt_id((Message("user", "sure"),)) and sure.replaced == 0
        assert (sure.source, sure.consent, sure.licence) == ("router", RULES.consent, RULES.licence)

    asyncio.run(check())


def test_the_completion_that_the_teacher_writes_beside_the_answer_is_in_the_row(folder: Path) -> None:
    async def check() -> None:
        everything = replace(QUICK, shadow_share=1.0)
        async with running(STUDENT, student="ok:card", teacher="ok:fee", params=everything, traffic=log(folder)) as router:
            await router.ask("beside")
            await until(lambda: router.parts.answering.shadow.counts["teacher"].compared == 1)
        async with running(STUDENT, student="ok:card", teacher="status-500", params=everything, traffic=log(folder)) as router:
            await router.ask("teacher fails")
            await until(lambda: router.teacher.asked["status-500"] == 1 and not router.teacher.open)
        async with running(STUDENT, student="ok:card", teacher="slow-headers", params=everything, traffic=log(folder)) as router:
            await router.ask("the router ends before")
        rows = {text: (row.student, row.teacher) for text, row in logged(folder).items()}
        assert rows == {"beside": ("card", "fee"), "teacher fails": ("card", None), "the router ends before": ("card", None)}

    asyncio.run(check())


@pytest.mark.parametrize("stream", [False, True])
def test_personal_data_and_secrets_never_reach_the_disk(folder: Path, stream: bool) -> None:
    async def check() -> None:
        text = f"I am {PERSON}, my key is {SECRET}"
        written = f"ok:write to {PERSON} with {SECRET}"
        async with running(TEACHER, teacher=written, data=TEXT, traffic=log(folder)) as router:
            response = await router.ask(text, stream=stream, redistill={"slice": PERSON})
            assert SECRET in (await response.read()).decode(), "the caller gets what the model wrote"
        [row] = read_traffic(folder)
        assert row.messages[0].content == "I am [EMAIL], my key is [SECRET]" and row.teacher == "write to [EMAIL] with [SECRET]"
        assert row.slice == "[EMAIL]" and row.replaced == 4 and row.prompt_id == prompt_id(row.messages)
        for file in folder.parent.rglob("*"):
            if file.is_file():
                assert PERSON.encode() not in file.read_bytes() and SECRET.encode() not in file.read_bytes()
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    asyncio.run(check())


def test_the_writer_gets_no_secret_of_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("HF_TOKEN", "OTEL_EXPORTER_OTLP_HEADERS", "DATABASE_URL", "REDISTILL_SERVE_API_KEY", "SOME_PASSWORD", "aws_session")
    for name in secrets:
        monkeypatch.setenv(name, "a secret value")
    monkeypatch.setenv("LC_TIME", "C")

    async def check() -> None:
        async with running(TEACHER, teacher="ok:fee", traffic=log(folder)) as router:
            await until(lambda: bool(writers()))
            [writer] = writers()
            variables = dict(line.split("=", 1) for line in Path(f"/proc/{writer}/environ").read_text().split("\0") if line)
            assert variables["PATH"] == os.environ["PATH"] and variables["LC_TIME"] == "C"
            assert not set(secrets) & variables.keys() and "a secret value" not in variables.values()
            await router.ask("kept")
        assert set(logged(folder)) == {"kept"}

    asyncio.run(check())


def writers() -> list[str]:
    """Processes of this one that write traffic."""
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    return [pid for pid in children if b"traffic.writer" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_requests_that_are_not_of_the_task_and_failed_ones_are_not_kept(folder: Path) -> None:
    async def check() -> None:
        async with running(TEACHER, teacher="ok:fee", traffic=log(folder)) as router:
            await router.ask("with a tool", tools=[{"type": "function"}])
            await router.ask("kept")
        async with running(TEACHER, teacher="status-500", traffic=log(folder)) as router:
            assert (await router.ask("nobody answers")).status == 503
        assert set(logged(folder)) == {"kept"}

    asyncio.run(check())


def test_only_the_share_is_kept_and_files_have_at_most_so_many_rows(folder: Path) -> None:
    async def check() -> None:
        async with running(TEACHER, teacher="ok:fee", traffic=log(folder, share=0.5, shard_rows=4)) as router:
            for n in range(60):
                await router.ask(f"text {n}")
        rows = list(read_traffic(folder))
        assert 10 < len(rows) < 50 and len(shards(folder)) == -(-len(rows) // 4)
        assert [row.at for row in rows] == sorted(row.at for row in rows), "files are in the order of their names"

    asyncio.run(check())


def test_a_file_is_written_after_its_time_while_the_router_runs(folder: Path) -> None:
    async def check() -> None:
        async with running(TEACHER, teacher="ok:fee", traffic=log(folder, shard_s=1.0)) as router:
            await router.ask("first")
            await until(lambda: len(shards(folder)) == 1)
            await until(lambda: router.parts.answering.traffic.written == 1)
            assert await metric(router, "redistill_traffic_rows") == 1.0

    asyncio.run(check())


def test_a_disk_that_refuses_the_log_stops_no_answer_and_loses_nothing_that_fits(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def check() -> None:
        folder.parent.mkdir(parents=True)
        # A file in the folder's place: also root cannot write there.
        folder.write_text("in the way", encoding="utf-8")
        traffic = log(folder, shard_s=1.0, shard_rows=3)
        async with running(TEACHER, teacher="ok:fee", traffic=traffic) as router:
            for n in range(5):
                assert (await router.ask(f"text {n}")).status == 200
            await until(lambda: traffic.lost == 2)
            assert await metric(router, "redistill_traffic_lost_rows") == 2.0
            folder.unlink()
            await until(lambda: traffic.written == 3)
        assert len(logged(folder)) == 3 and traffic.lost == 2

    asyncio.run(check())
    said = capfd.readouterr().err
    assert said.count("warning: traffic is not logged") == 1 and "2 requests were not logged" in said


def test_a_writer_that_is_killed_is_started_again_and_what_it_held_is_counted(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def check() -> None:
        traffic = log(folder, shard_s=1.0)
        async with running(TEACHER, teacher="ok:fee", traffic=traffic) as router:
            await router.ask("written")
            await until(lambda: traffic.written == 1)
            [writer] = children(os.getpid())
            os.kill(writer, signal.SIGSTOP)
            await router.ask("held")
            # It is sent before the next look at the queue.
            await until(lambda: traffic._sent == 2)
            os.kill(writer, signal.SIGKILL)
            await until(lambda: traffic.lost == 1)
            await router.ask("later")
            await until(lambda: traffic.written == 2)
        assert set(logged(folder)) == {"written", "later"}

    asyncio.run(check())
    assert "its writer was killed" in capfd.readouterr().err


def children(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children() if "redistill.serving.traffic.writer" in child.cmdline()]


def test_what_comes_faster_than_it_can_be_written_is_lost_and_counted_and_memory_is_bounded(folder: Path) -> None:
    async def check() -> None:
        traffic = log(folder)
        working = asyncio.ensure_future(traffic.run())
        await until(lambda: len(children(os.getpid())) == 1)
        [writer] = children(os.getpid())
        os.kill(writer, signal.SIGSTOP)
        for n in range(4000):
            traffic.finished(finished(f"text {n}"), asks_beside=False)
            if n % 500 == 0:
                await asyncio.sleep(0)
        traffic.finished(finished("x" * 200_000), asks_beside=False)
        lost = traffic.lost
        os.kill(writer, signal.SIGCONT)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        assert lost >= 1500 and traffic.lost == lost and traffic.written + lost == 4001

    asyncio.run(check())


def test_rows_that_came_while_the_writer_started_are_written(folder: Path) -> None:
    async def check() -> None:
        traffic = log(folder)
        working = asyncio.ensure_future(traffic.run())
        traffic.finished(finished("early"), asks_beside=False)
        await asyncio.sleep(0)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        assert set(logged(folder)) == {"early"} and (traffic.written, traffic.lost) == (1, 0)

    asyncio.run(check())


def finished(text: str) -> Finished:
    prompt = Prompt.of((Message("user", text),), "", "app", None, "")
    decision = Decision(mode="teacher", stream=False, route="teacher", reason="mode", ended="done")
    return Finished(prompt, decision, "7", {"teacher": "fee"})


def test_a_prompt_that_was_removed_is_not_written_again(folder: Path) -> None:
    async def check() -> None:
        bury(
            folder.parent / "forgotten.jsonl",
            Tombstone(tombstone_digest(prompt_id((Message("user", "remove me"),))), "2026-11-28", "asked"),
        )
        traffic = log(folder)
        async with running(TEACHER, teacher="ok:fee", traffic=traffic) as router:
            await router.ask("remove me")
            await router.ask("stay")
        assert set(logged(folder)) == {"stay"} and (traffic.written, traffic.lost) == (1, 0)

    asyncio.run(check())
