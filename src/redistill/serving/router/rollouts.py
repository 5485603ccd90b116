"""Drives a rollout: the next step when the new version has proved itself in this one, and back to the version before when it fails or disagrees more often.

What is counted of both versions is kept in a file, and the step is in the flag, so a restart continues. The two versions are compared at looks, each after
fifty requests of the new one, with Fisher's exact test; the looks share one chance of a false alarm. Fewer requests decide nothing.

Where the version before has had too few requests to be compared with, the failures of the new one are tested against a fixed limit instead, by the exact binomial test,
and the reason says so. Look k has alpha / (k (k + 1)) for its two questions, half for each. Every question is one exact test at each look, chosen by numbers of requests
and not by failures. So by the union bound, the chance that any reason is ever wrong is at most alpha, however many looks there are.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from redistill.errors import DataError
from redistill.io.json import read_json, write_json
from redistill.serving.params import ServeParams
from redistill.serving.rollout import next_share
from redistill.serving.router.decision import Decision
from redistill.serving.router.saying import say
from redistill.serving.router.shadow import Compared
from redistill.serving.types import Rollout, Route
from redistill.statistics.shares import share_test
from redistill.statistics.two_shares import larger_share_test, spent

ALPHA = 0.05
_LOOK_EVERY, _POLL_S = 50, 1.0
_FEWEST_COMPARED = 20
_FEWEST_OLD, _MOST_FAILING = 100, 0.1
"""While the version before has had fewer requests, the new version must not be shown to fail on more than this share of its requests."""
_DIFFERS = 0.5


@dataclass(slots=True)
class Arm:
    """What was counted of one version."""

    requests: int = 0
    failures: int = 0
    compared: int = 0
    disagreements: int = 0


@dataclass(slots=True)
class State:
    """Counts of one rollout. ``step`` is when the present step began, ``before_step`` the new version's requests until then."""

    versions: tuple[str, str] = ("", "")
    new: Arm = field(default_factory=Arm)
    old: Arm = field(default_factory=Arm)
    step: str = ""
    before_step: int = 0
    looks: int = 0


class Rollouts:
    """``advance`` writes the next share into the flag (None: the rollout ends), ``stop`` returns to the version before and tells people. Both may block."""

    def __init__(
        self,
        file: Path,
        params: ServeParams,
        route: Callable[[], Route],
        advance: Callable[[Rollout, float | None, str], None],
        stop: Callable[[str, Route], object],
    ) -> None:
        self._file, self._params, self._route, self._advance, self._stop = file, params, route, advance, stop
        self.state, self._saved = State(), ""

    def count(self, decision: Decision) -> None:
        """Count a request that a student was to answer."""
        if (arm := self._arm(decision.student)) is not None:
            arm.requests += 1
            arm.failures += decision.student_failed

    def observe(self, compared: Compared) -> None:
        """Count a comparison of the live system with the teacher."""
        if (arm := self._arm(compared.version)) is not None:
            arm.compared += 1
            arm.disagreements += compared.disagreement >= _DIFFERS

    async def run(self) -> None:
        """Look until cancelled. What waits for a lock or the disk runs beside the requests."""
        loop = asyncio.get_running_loop()
        while True:
            if (action := self.look(time.time())) is not None:
                await loop.run_in_executor(None, action)
            if (text := repr(self.state)) != self._saved:
                self._saved = text
                await loop.run_in_executor(None, self._save, asdict(self.state))
            await asyncio.sleep(_POLL_S)

    def look(self, now: float) -> Callable[[], object] | None:
        """What is to be done now: None, the next step, or the way back. A version that was stopped waits for the registry."""
        route = self._route()
        rollout = route.rollout
        if rollout is None or rollout.share <= 0.0:
            return None
        self._turn_to(route, rollout)
        if (problem := self._problem()) is not None:
            reason = f"the rollout of version {route.model_version} was stopped at {rollout.share:.0%}: {problem}"
            return lambda: self._stop(reason, route)
        if not self._done(rollout, now):
            return None
        share = next_share(rollout.share, self._params.rollout_steps)
        sentence = f"rollout: version {route.model_version} has {'all of the traffic' if share is None else f'{share:.0%} of the keys'}"
        say(f"{sentence}; {self._counts()}")
        return lambda: self._advance(rollout, share, sentence)

    def _done(self, rollout: Rollout, now: float) -> bool:
        lasted_s = now - dt.datetime.fromisoformat(rollout.since).timestamp()
        new, seen = self.state.new, self.state.new.requests - self.state.before_step
        compared = self._params.shadow_share == 0.0 or new.compared >= _FEWEST_COMPARED
        return lasted_s >= 60.0 * self._params.rollout_minutes and seen >= self._params.rollout_requests and compared

    def _problem(self) -> str | None:
        """What the new version does worse than the one before; None while nothing is shown. At most one look for each fifty of its requests."""
        state = self.state
        if state.new.requests < _LOOK_EVERY * (state.looks + 1):
            return None
        state.looks = state.new.requests // _LOOK_EVERY
        # Two questions share each look.
        alpha, new, old = spent(ALPHA, state.looks) / 2, state.new, state.old
        if (failing := self._failing(alpha)) is not None:
            return failing
        differing = larger_share_test(new.disagreements, new.compared, old.disagreements, old.compared)
        if new.compared >= _FEWEST_COMPARED and differing < alpha:
            return (
                f"it disagrees with the teacher on {new.disagreements:,} of {new.compared:,} sampled requests, version {state.versions[1]} on "
                f"{old.disagreements:,} of {old.compared:,} (p {differing:.2g})"
            )
        return None

    def _failing(self, alpha: float) -> str | None:
        """Whether the new version fails too often: more often than the one before, or than the limit where little is known of that one."""
        new, old, before = self.state.new, self.state.old, self.state.versions[1]
        failed = f"it failed on {new.failures:,} of {new.requests:,} requests"
        if old.requests < _FEWEST_OLD:
            p_value = share_test(new.failures, new.requests, _MOST_FAILING)
            reason = f"{failed}, more than the limit of {_MOST_FAILING:.0%} (p {p_value:.2g}); version {before} has had only {old.requests:,} requests"
            return reason if p_value < alpha else None
        p_value = larger_share_test(new.failures, new.requests, old.failures, old.requests)
        return f"{failed}, version {before} on {old.failures:,} of {old.requests:,} (p {p_value:.2g})" if p_value < alpha else None

    def _arm(self, version: str) -> Arm | None:
        route = self._route()
        if not version or route.rollout is None:
            return None
        self._turn_to(route, route.rollout)
        return {route.model_version: self.state.new, route.rollout.version: self.state.old}.get(version)

    def _turn_to(self, route: Route, rollout: Rollout) -> None:
        """Begin with empty counts for another pair of versions, or continue the kept ones of this pair; and note when a step begins."""
        versions = (route.model_version or "", rollout.version)
        if versions != self.state.versions:
            kept = self._kept()
            self.state = kept if kept is not None and kept.versions == versions else State(versions)
        if self.state.step != rollout.since:
            self.state.step, self.state.before_step = rollout.since, self.state.new.requests

    def _kept(self) -> State | None:
        if not self._file.exists():
            return None
        try:
            tree = read_json(self._file)
            arms = {name: Arm(**tree[name]) for name in ("new", "old")}
            return State(**{**tree, **arms, "versions": tuple(tree["versions"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            say(f"warning: {self._file} is no state of a rollout ({type(error).__name__}); its counts begin again")
            return None

    def _save(self, tree: dict[str, Any]) -> None:
        try:
            write_json(self._file, tree)
        except DataError as error:
            say(f"warning: after a restart, the counts of the rollout begin again: {error}")

    def _counts(self) -> str:
        new, old = self.state.new, self.state.old
        return (
            f"it failed on {new.failures:,} of {new.requests:,} requests and disagreed on {new.disagreements:,} of {new.compared:,}, "
            f"the version before on {old.failures:,} of {old.requests:,} and {old.disagreements:,} of {old.compared:,}"
        )
