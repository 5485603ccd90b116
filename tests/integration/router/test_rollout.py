"""Two versions of the student behind one router: which keys each has, and who answers while one of them is not verified."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

from redistill.serving.router.decision import Decision
from redistill.serving.router.plan import Live
from redistill.serving.types import Comparison, Rollout
from tests.integration.router.test_comparisons import recorded
from tests.integration.router.test_shadow import ALL
from tests.routers import CASCADE, ENGINE, STUDENT, Running, running

ROUTE = replace(STUDENT, model_version="8", rollout=Rollout("7", CASCADE, 0.3, "2026-11-28T02:00:00+00:00"))
BEFORE = ROUTE.before


def live(share: float = 0.3, unverified: str = "", before: str = "") -> Live:
    assert ROUTE.rollout is not None and BEFORE is not None
    older = Live(BEFORE, readable=True, unverified=before, engine=ENGINE, place="student")
    route = replace(ROUTE, rollout=replace(ROUTE.rollout, share=share))
    return Live(route, readable=True, unverified=unverified, engine=ENGINE, place="next", older=older)


async def versions(router: Running, count: int = 60) -> Counter[str]:
    seen = Counter[str]()
    for n in range(count):
        response = await router.ask(redistill={"key": f"customer {n}"})
        assert response.status == 200
        seen[response.headers["X-Redistill-Model-Version"]] += 1
    return seen


def test_each_version_has_its_keys_and_its_server() -> None:
    async def check() -> None:
        async with running(ROUTE, student="ok:card", newer="ok:pin") as router:
            router.holder["live"] = live()
            first = await versions(router)
            assert 8 <= first["8"] <= 28 and first["8"] + first["7"] == 60
            assert (router.newer.asked["ok:pin"], router.student.asked["ok:card"]) == (first["8"], first["7"])
            response = await router.ask(redistill={"key": "customer 1"})
            text = {"8": "pin", "7": "card"}[response.headers["X-Redistill-Model-Version"]]
            assert (await response.json())["choices"][0]["message"]["content"] == text
            assert await versions(router) == first, "the same keys again"
            router.holder["live"] = live(0.0)
            assert await versions(router, 20) == {"7": 20}
            router.holder["live"] = live(1.0)
            assert await versions(router, 20) == {"8": 20}

    asyncio.run(check())


def test_the_version_before_answers_until_the_new_one_is_verified_and_the_teacher_where_neither_is() -> None:
    async def check() -> None:
        async with running(ROUTE, student="ok:card", newer="ok:pin", teacher="ok:fee") as router:
            router.holder["live"] = live(unverified="not checked yet")
            assert await versions(router, 20) == {"7": 20}
            router.holder["live"] = live(before="its server is down")
            seen = await versions(router)
            assert seen["8"] and seen["ok:fee"] and not seen["7"], "nobody sees the new version before its share has come"
            router.holder["live"] = live(unverified="x", before="y")
            assert await versions(router, 10) == {"ok:fee": 10}

    asyncio.run(check())


def test_failures_and_comparisons_are_counted_for_the_version_that_was_asked() -> None:
    async def check() -> None:
        decisions, lines = list[Decision](), list[Comparison]()
        options = {"student": "ok:card", "newer": "status-500", "teacher": "ok:fee"}
        async with running(ROUTE, params=ALL, counted=decisions.append, record=lines.append, **options) as router:
            router.holder["live"] = live()
            seen = await versions(router)
            assert {d.student for d in decisions} == {"7", "8"}
            assert all(d.student_failed == (d.student == "8") for d in decisions) and seen["ok:fee"] == sum(
                d.student == "8" for d in decisions
            )
            assert {line["student"] for line in router.lines} == {"7", "8"}, "also where the teacher answered in the end"
            await recorded(lines, 1)
            text = await (await router.session.get(f"{router.url}/readyz")).json()
            assert text["rollout"] == {
                "share": 0.3,
                "since": ROUTE.rollout and ROUTE.rollout.since,
                "version before": "7",
                "unverified": "",
            }
        assert {(line.version, line.disagreement is None) for line in lines} == {("7", False), ("8", True)}

    asyncio.run(check())
