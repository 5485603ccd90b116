"""Keeps one version proved: its signature is checked once, its server's known completions now and then, and whether it is listed every few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from redistill.errors import RedistillError
from redistill.serving.router.proof import Proof
from redistill.serving.router.saying import say
from redistill.serving.types import Route, ServedVersion

AGAIN_S, PROVE_AGAIN_S, LONGEST_S = 5.0, 300.0, 600.0
"""How often the server's list of models is looked at, and a version that could not be verified is tried again; how often known prompts are completed again."""
NOT_CHECKED = Proof("not checked yet")

Verify = Callable[[str], ServedVersion]
"""Checks a version's signature, which may take seconds; raises RedistillError."""
Prove = Callable[[ServedVersion, Route, Proof], Awaitable[Proof]]
"""The last argument is what was proved before."""


def _state(route: Route, proof: Proof) -> str:
    """What a proof means for the traffic, in words."""
    if proof.problem:
        return f"does not get traffic: {proof.problem}"
    # A student that answers alone, or because of a pin, needs no threshold.
    if route.answers != "cascade" or route.measured_for(proof.engine):
        return "is verified and may answer"
    how = ""
    if proof.engine is None:
        how = ", which names no engine and no version; start it with `redistill serve-model student`"
    elif proof.engine.dtype == "auto":
        how = "; start its server with `redistill serve-model student`, which says the number format, or set serve.student_dtype"
    return f"is verified, but the teacher answers: the threshold of the cascade was not measured for {proof.engine or 'its server'}{how}"


class VersionCheck:
    """``prove`` asks the server for known completions, ``look`` only whether it still lists the version. ``proof`` is what holds now."""

    def __init__(self, verify: Verify, prove: Prove, look: Prove) -> None:
        self._verify, self._prove, self._look = verify, prove, look
        self._served: ServedVersion | None = None
        self._again_at = self._prove_at = 0.0
        self._wait_s = AGAIN_S
        self._runs = False
        self.proof = NOT_CHECKED

    def due(self, now: float) -> bool:
        return not self._runs and (self.proof is NOT_CHECKED or now >= self._again_at)

    def forget(self) -> None:
        """It was not looked at for a while, so nothing is known of its server any more. The signature that was checked still holds."""
        self.proof = NOT_CHECKED

    async def run(self, route: Route) -> None:
        """Check again; ``proof`` is new afterwards."""
        loop = asyncio.get_running_loop()
        first = bool(self.proof.problem) or loop.time() >= self._prove_at
        self._runs = True
        try:
            proof = await self._checked(route, first=first)
        finally:
            self._runs = False
        now = loop.time()
        if first:
            self._prove_at = now + PROVE_AGAIN_S
        if (state := _state(route, proof)) != _state(route, self.proof):
            say(f"version {route.model_version} {state}")
        self.proof = proof
        # A version that cannot be verified is not downloaded every few seconds.
        self._wait_s = min(2 * self._wait_s, LONGEST_S) if self._served is None else AGAIN_S
        self._again_at = now + self._wait_s

    async def _checked(self, route: Route, *, first: bool) -> Proof:
        assert route.model_version is not None
        try:
            if self._served is None:
                self._served = await asyncio.get_running_loop().run_in_executor(None, self._verify, route.model_version)
            return await (self._prove if first else self._look)(self._served, route, self.proof)
        except RedistillError as error:
            return Proof(" ".join(str(error).split())[:300])
        except Exception as error:
            # Whatever it is, the router goes on, and the teacher answers.
            return Proof(f"the check failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})")
