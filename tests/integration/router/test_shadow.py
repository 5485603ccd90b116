"""The guard of live traffic: a share of the student's requests is also asked of the teacher, after the caller has its answer."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from redistill.data.types import Message, Prompt
from redistill.serving.router.guard import Guard
from redistill.serving.router.plan import Live
from redistill.serving.router.shadow import Attempt, Compared, Sample, Shadow
from redistill.serving.router.types import Asked, Completion, Side
from redistill.serving.types import Rollout, Route
from tests.routers import CASCADE, LABELS, QUICK, STUDENT, SURE, running

ALL = replace(QUICK, shadow_share=1.0)


async def compared(router: object, count: int, beside: Side = "teacher") -> None:
    shadow: Shadow = router.parts.answering.shadow  # type: ignore[attr-defined]
    deadline = asyncio.get_running_loop().time() + 20.0
    while shadow.counts[beside].compared < count:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


def test_the_teacher_is_asked_after_the_caller_has_its_answer() -> None:
    async def check() -> None:
        seen: list[Compared] = []
        async with running(STUDENT, student="ok:card", teacher="ok:fee", params=ALL, observe=seen.append) as router:
            for _ in range(5):
                assert (await router.ask()).headers["X-Redistill-Route"] == "student"
            await compared(router, 5)
            assert router.teacher.asked["ok:fee"] == 5 and {(c.disagreement, c.by_student, c.version) for c in seen} == {(1.0, True, "7")}
        seen.clear()
        async with running(SURE, student="ok:card:-0.4", teacher="ok:fee", params=ALL, observe=seen.append) as router:
            await router.ask()
            await compared(router, 1)
            assert router.teacher.asked["ok:fee"] == 1 and [(c.disagreement, c.by_student) for c in seen] == [(0.0, False)], (
                "what the teacher answered costs no second request"
            )
            await router.ask(headers={"X-Redistill-Route": "teacher"})
            assert len(seen) == 1, "what a caller demands of the teacher is not the system's traffic"

    asyncio.run(check())


def test_an_unsure_completion_that_helps_out_is_not_counted_as_the_teachers() -> None:
    async def check() -> None:
        seen: list[Compared] = []
        options = {"student": "ok:card:-0.4", "teacher": "flaky-2:fee", "help_when_down": True}
        async with running(SURE, params=ALL, observe=seen.append, **options) as router:
            response = await router.ask()
            assert response.headers["X-Redistill-Reason"] == "teacher-down"
            await compared(router, 1)
            assert [(c.disagreement, c.by_student) for c in seen] == [(1.0, True)], "the teacher was asked again, and answers otherwise"

    asyncio.run(check())


def test_a_full_disk_stops_neither_an_answer_nor_an_alarm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a file").write_text("", encoding="utf-8")
    alarms: list[str] = []
    guard = Guard(tmp_path / "a file" / "guard.json", 0.05, lambda: SURE, lambda reason, route: alarms.append(reason))
    observe(guard, 1.0, 40)
    assert len(alarms) == 1 and "could not write" in capsys.readouterr().err


def test_a_teacher_that_hangs_slows_nobody_and_is_counted() -> None:
    async def check() -> None:
        seen: list[Compared] = []
        async with running(STUDENT, teacher="slow-headers", params=ALL, observe=seen.append) as router:
            loop = asyncio.get_running_loop()
            begin = loop.time()
            for _ in range(20):
                await router.ask()
            assert loop.time() - begin < 15.0 and router.teacher.open <= 8, "a few at once, and no more"
            count = router.parts.answering.shadow.counts["teacher"]
            assert (count.sampled, count.compared, seen) == (20, 0, [])

    asyncio.run(check())


def test_a_guard_that_sees_too_little_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    async def check() -> None:
        async with running(STUDENT, teacher="status-500", params=ALL) as router:
            for _ in range(100):
                await router.ask()

    asyncio.run(check())
    assert capsys.readouterr().err.count("of 100 sampled requests were compared") == 1


def observe(guard: Guard, disagreement: float, count: int, version: str = "7") -> None:
    for n in range(count):
        guard.observe(Compared(str(n), version, disagreement, by_student=True))


def test_the_guard_falls_back_once_and_remembers(tmp_path: Path) -> None:
    alarms: list[tuple[str, Route]] = []
    holder = {"route": SURE}

    def made() -> Guard:
        return Guard(tmp_path / "guard.json", 0.05, lambda: holder["route"], lambda reason, route: alarms.append((reason, route)))

    guard = made()
    observe(guard, 0.0, 60)
    observe(guard, 1.0, 100, version="6")
    assert not alarms and guard.state.n == 60, "another version's requests say nothing about this one"
    again = made()
    observe(again, 1.0, 20)
    assert again.state.n == 80 and len(alarms) == 1, "a restart forgets nothing"
    [(reason, route)] = alarms
    assert route == SURE and "version 7 disagrees with the teacher on" in reason and "5.0% was promised" in reason
    observe(again, 1.0, 50)
    observe(made(), 1.0, 5)
    assert len(alarms) == 1, "one alarm a system"
    holder["route"] = replace(SURE, changed_at="2026-11-29T02:00:00+00:00")
    given_back = made()
    observe(given_back, 1.0, 40)
    assert len(alarms) == 2, "after the traffic was given back, there is a new alarm if it is still wrong"
    holder["route"] = replace(SURE, model_version="8")
    fresh = made()
    observe(fresh, 0.0, 3, version="8")
    assert fresh.state.n == 3 and fresh.state.largest < 20, "another system has an empty state"
    (tmp_path / "guard.json").write_text(json.dumps({"system": "x", "state": 3}), encoding="utf-8")
    observe(made(), 0.0, 1, version="8")


def test_under_load_requests_of_both_models_are_left_out_at_the_same_moments() -> None:
    async def check() -> None:
        seen, open_at_once = list[Compared](), asyncio.Event()

        async def ask(side: Side, asked: Asked, live: Live) -> Completion:
            await open_at_once.wait()
            return Completion("fee", "stop")

        shadow = Shadow(1.0, LABELS, ask, seen.append, lambda comparison: None)
        prompt = Prompt.of((Message("user", "my card is lost"),), "a", "app", None, "")
        asked = Asked("chat", {}, prompt)
        attempt = Attempt(Completion("card", "stop"), 0.1)
        mine = Sample(asked, "a", Live(SURE, readable=True), True, True, attempt, None)
        teachers = replace(mine, by_student=False, student=attempt, teacher=attempt)
        assert [shadow.consider(mine) for _ in range(9)] == [True] * 8 + [False]
        shadow.consider(teachers)
        count = shadow.counts["teacher"]
        assert (count.sampled, count.compared, seen) == (10, 0, []), "a deferred request would pull the mean down"
        open_at_once.set()
        await asyncio.gather(*shadow._running)
        shadow.consider(teachers)
        assert (count.sampled, count.compared) == (11, 9)
        assert [c.disagreement for c in seen] == [1.0] * 8 + [0.0]

    asyncio.run(check())


def test_during_a_rollout_both_versions_have_a_guard_of_their_own(tmp_path: Path) -> None:
    alarms: list[tuple[str, Route]] = []
    newer = replace(STUDENT, model_version="8", rollout=Rollout("7", CASCADE, 0.05, "2026-11-28T02:00:00+00:00"))
    holder = {"route": SURE}

    def made() -> Guard:
        return Guard(tmp_path / "guard.json", 0.05, lambda: holder["route"], lambda reason, route: alarms.append((reason, route)))

    guard = made()
    observe(guard, 0.0, 30)
    holder["route"] = newer
    observe(guard, 0.0, 5)
    assert guard.state.n == 35, "the version before keeps what was seen of it"
    observe(guard, 0.0, 15, version="8")
    assert guard.state.n == 15
    guard.save()
    again = made()
    observe(again, 1.0, 20)
    [(reason, route)] = alarms
    assert again.state.n == 55 and "version 7 disagrees" in reason and route == newer.before, "most of the traffic has a guard too"
    observe(again, 0.0, 1, version="8")
    assert again.state.n == 16 and again.state.mean == 0.0, "both states survive a restart"
    stopped = replace(newer, changed_at="2026-11-28T03:00:00+00:00", rollout=newer.rollout and replace(newer.rollout, share=0.0))
    holder["route"] = stopped
    observe(again, 1.0, 100, version="8")
    assert len(alarms) == 1, "a stopped version has no traffic to lose"


def test_a_state_of_an_earlier_version_is_continued(tmp_path: Path) -> None:
    guard = Guard(tmp_path / "guard.json", 0.05, lambda: SURE, lambda reason, route: None)
    observe(guard, 0.0, 12)
    guard.save()
    [(system, kept)] = json.loads((tmp_path / "guard.json").read_text(encoding="utf-8"))["systems"].items()
    (tmp_path / "guard.json").write_text(json.dumps({"system": system, **kept}), encoding="utf-8")
    again = Guard(tmp_path / "guard.json", 0.05, lambda: SURE, lambda reason, route: None)
    observe(again, 0.0, 1)
    assert again.state.n == 13
