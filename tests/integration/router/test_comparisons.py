"""Of a sampled request both completions are recorded, of the student and of the teacher; the guard counts only what the live system answered."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from redistill.serving.rehearsal import Rule, selected
from redistill.serving.router.shadow import Compared
from redistill.serving.types import Comparison, Route
from tests.integration.router.test_shadow import ALL, compared
from tests.routers import ENGINE, LABELS, STUDENT, SURE, TEACHER, TEXT, Running, running

PINNED = replace(SURE, pin="teacher")


async def recorded(lines: list[Comparison], count: int) -> None:
    deadline = asyncio.get_running_loop().time() + 20.0
    while len(lines) < count:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


async def silence(router: Running, asked: dict[str, int]) -> None:
    """Nothing beside runs, and each server was asked so often."""
    shadow = router.parts.answering.shadow
    await asyncio.gather(*shadow._running, return_exceptions=True)
    assert {side: sum(models.asked.values()) for side, models in (("student", router.student), ("teacher", router.teacher))} == asked


@pytest.mark.parametrize(
    ("route", "body", "live"),
    [
        (PINNED, {}, "teacher"),
        (replace(SURE, share=0.0), {}, "cascade"),
        (replace(STUDENT, teacher_slices=("app",)), {"redistill": {"slice": "app"}}, "student"),
        (replace(STUDENT, share=0.0), {"stream": True}, "student"),
    ],
)
def test_where_the_teacher_answers_the_student_is_asked_beside(route: Route, body: dict[str, Any], live: str) -> None:
    async def check() -> None:
        lines, guard = list[Comparison](), list[Compared]()
        async with running(route, student="ok:card:-0.1", params=ALL, observe=guard.append, record=lines.append) as router:
            response = await router.ask("my card is lost", **body)
            assert response.headers["X-Redistill-Route"] == "teacher"
            await recorded(lines, 1)
            await silence(router, {"student": 1, "teacher": 1})
        [line] = lines
        assert (line.live, line.by_student, line.version, line.disagreement, line.objection) == (live, False, "7", 1.0, "")
        assert line.score_name == "sum_logprob" and line.score is not None and line.score < 0.0
        assert line.student_s > 0.0 and line.teacher_s > 0.0 and (line.student_tokens, line.teacher_tokens) == (3, 3)
        assert "card" not in json.dumps([line.id, line.slice, line.version]) and not guard, "the guard sees what the live system answered"

    asyncio.run(check())


def test_a_deferred_request_is_compared_at_no_cost_and_a_wrong_form_is_recorded() -> None:
    async def check() -> None:
        for student, objection in (("ok:card:-0.4", ""), ("ok:nonsense", "malformed")):
            lines, guard = list[Comparison](), list[Compared]()
            async with running(SURE, student=student, params=ALL, observe=guard.append, record=lines.append) as router:
                assert (await router.ask()).headers["X-Redistill-Route"] == "teacher"
                await silence(router, {"student": 1, "teacher": 1})
            assert [(x.objection, x.by_student, x.disagreement) for x in lines] == [(objection, False, 1.0)]
            assert [(x.disagreement, x.by_student) for x in guard] == [(0.0, False)]

    asyncio.run(check())


@pytest.mark.parametrize("route", [SURE, STUDENT])
def test_a_request_on_which_the_student_failed_is_recorded_as_the_guard_counts_it(route: Route) -> None:
    async def check() -> None:
        lines, guard = list[Comparison](), list[Compared]()
        async with running(route, student="status-500", params=ALL, observe=guard.append, record=lines.append) as router:
            assert (await router.ask()).headers["X-Redistill-Route"] == "teacher"
            await silence(router, {"student": 1, "teacher": 1})
        [line] = lines
        assert (line.guarded, line.by_student, line.disagreement, line.score, line.student_s, line.student_tokens, line.objection) == (
            (True, False, None, None, None, None, "")
        )
        assert line.teacher_s > 0.0 and [c.disagreement for c in guard] == [0.0]
        selection = selected([json.loads(json.dumps(asdict(line)))], "7", (Rule("teacher"), Rule("student")))
        assert (selection.used, selection.left_out) == ((), {"on which the student failed": 1})

    asyncio.run(check())


def test_a_student_alone_is_asked_again_for_its_score_after_the_caller_has_its_answer() -> None:
    async def check() -> None:
        for data, stream in ((LABELS, False), (TEXT, True)):
            lines = list[Comparison]()
            async with running(STUDENT, student="ok:card:-0.1", teacher="ok:card", data=data, params=ALL, record=lines.append) as router:
                assert (await router.ask(stream=stream)).headers["X-Redistill-Route"] == "student"
                await recorded(lines, 1)
                await silence(router, {"student": 2, "teacher": 1})
            assert lines[0].by_student and lines[0].disagreement == 0.0 and lines[0].score is not None

    asyncio.run(check())


@pytest.mark.parametrize(
    "change",
    [
        {"unverified": "not checked yet"},
        {"readable": False},
        {"engine": None},
        {"route": TEACHER},
    ],
)
def test_a_student_that_is_not_verified_is_not_asked_beside(change: dict[str, Any]) -> None:
    async def check() -> None:
        async with running(PINNED, params=ALL) as router:
            router.holder["live"] = replace(router.holder["live"], **change)
            await router.ask()
            await silence(router, {"student": 0, "teacher": 1})
            router.holder["live"] = replace(router.holder["live"], route=PINNED, readable=True, unverified="", engine=ENGINE)
            await router.ask(headers={"X-Redistill-Route": "teacher"})
            await silence(router, {"student": 0, "teacher": 2})

    asyncio.run(check())


def test_a_student_that_hangs_slows_nobody_and_its_silence_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    async def check() -> None:
        async with running(PINNED, student="slow-headers", params=ALL) as router:
            loop = asyncio.get_running_loop()
            begin = loop.time()
            for _ in range(100):
                assert (await router.ask()).status == 200
            assert loop.time() - begin < 15.0 and router.student.open <= 8
            count = router.parts.answering.shadow.counts["student"]
            assert (count.sampled, count.compared) == (100, 0)
            text = await (await router.session.get(f"{router.url}/metrics")).text()
            assert 'redistill_shadow_sampled{asked="student"} 100.0' in text

    asyncio.run(check())
    assert capsys.readouterr().err.count("of 100 sampled requests were compared with the student") == 1


def test_a_pinned_student_is_compared_and_the_guard_does_not_count_it() -> None:
    async def check() -> None:
        lines, guard = list[Comparison](), list[Compared]()
        async with running(
            replace(SURE, pin="student"), student="ok:card", params=ALL, observe=guard.append, record=lines.append
        ) as router:
            assert (await router.ask()).headers["X-Redistill-Reason"] == "pin"
            await compared(router, 1)
            await recorded(lines, 1)
        assert lines[0].by_student and lines[0].live == "student" and not guard

    asyncio.run(check())
