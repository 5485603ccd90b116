"""What holds now: reads the flag within a fraction of a second of a change, and has the students' servers proved again when it matters.

A change to the teacher takes effect as soon as the flag is read. A change to a student waits until its version is verified and its server proved; until then
the teacher answers, or during a rollout the version before.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from redistill.serving.route_flag import SAFE, read_route
from redistill.serving.router.plan import Live
from redistill.serving.router.version_check import NOT_CHECKED, Prove, Verify, VersionCheck
from redistill.serving.types import Route

_POLL_S = 0.2
_REMEMBERED = 3
"""Versions whose signature need not be checked again when the flag returns to them."""


class Watch:
    """``prove`` asks the servers for known completions, ``look`` only whether one still lists the version."""

    def __init__(self, flags: Path, verify: Verify, prove: Prove, look: Prove) -> None:
        self._flags, self._parts = flags, (verify, prove, look)
        self._seen: tuple[int, ...] | None = None
        self._checks: dict[tuple[object, ...], VersionCheck] = {}
        self._present: set[tuple[object, ...]] = set()
        self._route, self._readable = SAFE, False
        self.live = Live(SAFE, readable=False)
        self._read()

    async def run(self) -> None:
        """Watch until cancelled. A check may take seconds, so the flag is read beside it."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._reading())
                group.create_task(self._checking())
                group.create_task(self._checking_before())
        finally:
            # Without a watch nothing is known any more.
            self.live, self._seen = Live(SAFE, readable=False), None

    async def _reading(self) -> None:
        while True:
            self._read()
            await asyncio.sleep(_POLL_S)

    async def _checking(self) -> None:
        while True:
            # Also while the teacher is pinned, so that the student can answer as soon as the pin is removed.
            await self._check(self._route)
            await asyncio.sleep(_POLL_S)

    async def _checking_before(self) -> None:
        """The version before is checked beside the new one, whose download may take long."""
        while True:
            if (before := self._route.before) is not None:
                await self._check(before)
            await asyncio.sleep(_POLL_S)

    async def _check(self, route: Route) -> None:
        check = self._check_of(route)
        if check is not None and check.due(asyncio.get_running_loop().time()):
            await check.run(route)
            self._put_together()

    def _check_of(self, route: Route) -> VersionCheck | None:
        return None if route.model_version is None else self._checks.get(_identity(route))

    def _read(self) -> None:
        try:
            status = self._flags.stat()
            seen: tuple[int, ...] = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            seen = ()
        if seen == self._seen and seen:
            return
        self._seen = seen
        self._route = read_route(self._flags)
        # A route without a time is not from a file: it is used where none can be read.
        self._readable = bool(self._route.changed_at)
        self._turn_to([route for route in (self._route, self._route.before) if route is not None and route.model_version is not None])
        self._put_together()

    def _turn_to(self, routes: list[Route]) -> None:
        """Check these versions from now on. Of one that comes back nothing is known of its server, but its signature need not be checked again."""
        present = {_identity(route) for route in routes}
        for identity in present:
            # At the end, where the most recent ones are.
            check = self._checks.pop(identity, None) or VersionCheck(*self._parts)
            self._checks[identity] = check
            if identity not in self._present:
                check.forget()
        self._present = present
        for identity in list(self._checks)[:-_REMEMBERED]:
            del self._checks[identity]

    def _put_together(self) -> None:
        before = self._route.before
        older = None if before is None else self._live(before)
        live = self._live(self._route)
        self.live = Live(live.route, live.readable, live.unverified, live.engine, live.place, older)

    def _live(self, route: Route) -> Live:
        check = self._check_of(route)
        proof = NOT_CHECKED if check is None else check.proof
        return Live(route, self._readable, proof.problem, proof.engine, proof.place)


def _identity(route: Route) -> tuple[object, ...]:
    """What a proof is about."""
    return route.model_version, route.cascade
