"""What holds now: reads the flag within a fraction of a second of a change, and has the student's server proved again when it matters.

A change to the teacher takes effect as soon as the flag is read. A change to a student waits until its version is verified and its server proved; until then
the teacher answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from redistill.errors import RedistillError
from redistill.serving.route_flag import SAFE, read_route
from redistill.serving.router.plan import Live
from redistill.serving.router.proof import Proof
from redistill.serving.router.saying import say
from redistill.serving.types import Route, ServedVersion

_POLL_S = 0.2
_AGAIN_S, _PROVE_AGAIN_S, _LONGEST_S = 5.0, 300.0, 600.0
"""How often the server's list of models is looked at, and a version that could not be verified is tried again; how often known prompts are completed again."""

Verify = Callable[[str], ServedVersion]
"""Checks a version's signature, which may take seconds; raises RedistillError."""
Prove = Callable[[ServedVersion, Route], Awaitable[Proof]]


class Watch:
    """``prove`` asks the server for known completions, ``look`` only whether it still lists the version."""

    def __init__(self, flags: Path, verify: Verify, prove: Prove, look: Prove) -> None:
        self._flags, self._verify, self._prove, self._look = flags, verify, prove, look
        self._seen: tuple[int, ...] | None = None
        self._served: ServedVersion | None = None
        self._proved_for: tuple[object, ...] | None = None
        self._again_at = self._prove_at = 0.0
        self._wait_s = _AGAIN_S
        self.live = Live(SAFE, readable=False)
        self._read()

    async def run(self) -> None:
        """Watch until cancelled. A check may take seconds, so the flag is read beside it."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._reading())
                group.create_task(self._checking())
        finally:
            # Without a watch nothing is known any more.
            self.live = Live(SAFE, readable=False)

    async def _reading(self) -> None:
        while True:
            self._read()
            await asyncio.sleep(_POLL_S)

    async def _checking(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            # Also while the teacher is pinned, so that the student can answer as soon as the pin is removed.
            if self.live.route.model_version is None:
                self._proved_for = None
            elif self._proved_for != _identity(self.live.route) or loop.time() >= self._again_at:
                await self._check(self.live.route)
                # A version that cannot be verified is not downloaded every few seconds.
                self._wait_s = min(2 * self._wait_s, _LONGEST_S) if self._served is None else _AGAIN_S
                self._again_at = loop.time() + self._wait_s
            await asyncio.sleep(_POLL_S)

    def _read(self) -> None:
        try:
            status = self._flags.stat()
            seen: tuple[int, ...] = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            seen = ()
        if seen == self._seen and seen:
            return
        self._seen = seen
        route = read_route(self._flags)
        same = self._proved_for == _identity(route)
        # A route without a time is not from a file: it is used where none can be read.
        self.live = Live(
            route, bool(route.changed_at), self.live.unverified if same else "not checked yet", self.live.engine if same else None
        )

    async def _check(self, route: Route) -> None:
        identity, now = _identity(route), asyncio.get_running_loop().time()
        first = self._proved_for != identity or bool(self.live.unverified) or now >= self._prove_at
        proof = await self._proof(route, first=first)
        if first:
            self._prove_at = now + _PROVE_AGAIN_S
        if _identity(self.live.route) != identity:
            return  # it changed meanwhile; the next look proves the new one
        if proof.problem != self.live.unverified:
            state = f"does not get traffic: {proof.problem}" if proof.problem else "is verified and may answer"
            say(f"version {route.model_version} {state}")
        self._proved_for = identity
        self.live = replace(self.live, unverified=proof.problem, engine=proof.engine)

    async def _proof(self, route: Route, *, first: bool) -> Proof:
        assert route.model_version is not None
        try:
            if self._served is None or self._served.version != route.model_version:
                self._served = None
                self._served = await asyncio.get_running_loop().run_in_executor(None, self._verify, route.model_version)
            return await (self._prove if first else self._look)(self._served, route)
        except RedistillError as error:
            return Proof(" ".join(str(error).split())[:300])
        except Exception as error:
            # Whatever it is, the router goes on, and the teacher answers.
            return Proof(f"the check failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})")


def _identity(route: Route) -> tuple[object, ...]:
    """What a proof is about."""
    return route.model_version, route.cascade
