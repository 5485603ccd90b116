"""Watches live traffic: is the disagreement with the teacher above what the threshold promised? It may be looked at after every request.

Each live system has a state of its own: version, threshold and limit. During a rollout there are two. The states are kept in a file, so that a restart forgets
nothing. When a test rejects, the system loses its traffic, once; a person's pin is not touched.

Source: ``redistill.statistics.e_process``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from redistill.errors import DataError
from redistill.io.json import read_json, write_json
from redistill.serving.router.saying import say
from redistill.serving.router.shadow import Compared
from redistill.serving.types import Route
from redistill.statistics.e_process import EProcess

ALPHA = 0.05
_SAVE_EVERY = 20


@dataclass(slots=True)
class _Watched:
    """One system: its test, and the ``changed_at`` of the route at its alarm, empty before."""

    process: EProcess
    alarmed: str = ""


class Guard:
    """``fall_back`` takes the traffic of a route's version away and tells people; it gets the reason, and runs once, until somebody gives the system its traffic back."""

    def __init__(self, file: Path, limit: float, route: Callable[[], Route], fall_back: Callable[[str, Route], object]) -> None:
        self._file, self._limit, self._route, self._fall_back = file, limit, route, fall_back
        self._systems: dict[str, _Watched] = {}
        self._last, self._unsaved = _Watched(EProcess(limit)), 0

    @property
    def state(self) -> EProcess:
        """The test of the system that was observed last."""
        return self._last.process

    def observe(self, compared: Compared) -> None:
        """Count one comparison. Those of a version that is not live any more say nothing about those that are."""
        route = self._route()
        live = _live(route, compared.version)
        if live is None:
            return
        self._turn_to([_identity(each, self._limit) for each in (route, route.before) if each is not None])
        watched = self._last = self._systems[_identity(live, self._limit)]
        if watched.alarmed and watched.alarmed != route.changed_at:
            # Somebody gave it its traffic back, and may be wrong again.
            watched.process, watched.alarmed = EProcess(self._limit), ""
        watched.process = process = watched.process.after(compared.disagreement)
        self._unsaved += 1
        alarm = process.rejects(ALPHA) and not watched.alarmed
        # Comparisons that were under way at the alarm are of the same route.
        watched.alarmed = route.changed_at if alarm else watched.alarmed
        if alarm or self._unsaved >= _SAVE_EVERY:
            self.save()
        if alarm:
            self._fall_back(
                f"the guard of live traffic: version {compared.version} disagrees with the teacher on {process.mean:.1%} of {process.n:,} sampled requests, "
                f"and {self._limit:.1%} was promised (p {process.p_value:.2g}, level {ALPHA:g})",
                live,
            )

    def save(self) -> None:
        """Keep the state for the next start. A disk that refuses it stops neither an answer nor an alarm."""
        self._unsaved = 0
        systems = {name: {"alarmed": each.alarmed, "state": asdict(each.process)} for name, each in self._systems.items()}
        try:
            write_json(self._file, {"systems": systems})
        except DataError as error:
            say(f"warning: after a restart, the guard will not know what it has seen since: {error}")

    def _turn_to(self, identities: list[str]) -> None:
        """Begin with an empty state for each other system, or continue the kept state of these."""
        if identities == list(self._systems):
            return
        kept = self._kept()
        self._systems = {name: self._systems.get(name) or self._watched(kept.get(name)) for name in identities}

    def _watched(self, tree: Any) -> _Watched:
        if tree is None:
            return _Watched(EProcess(self._limit))
        try:
            return _Watched(EProcess(**{**tree["state"], "capital": tuple(tree["state"]["capital"])}), str(tree["alarmed"] or ""))
        except (KeyError, TypeError, ValueError) as error:
            say(f"warning: {self._file} is not a state of the guard ({error}); the guard begins with an empty one")
            return _Watched(EProcess(self._limit))

    def _kept(self) -> dict[str, Any]:
        try:
            tree = read_json(self._file)
        except (OSError, ValueError):
            return {}
        if not isinstance(tree, dict):
            return {}
        # An earlier version kept one system.
        systems = tree.get("systems", {tree.get("system"): tree})
        return systems if isinstance(systems, dict) else {}


def _live(route: Route, version: str) -> Route | None:
    """The live system of a version: during a rollout there are two, unless the new one was stopped. None if the version is not live."""
    if route.model_version == version:
        return None if route.rollout is not None and route.rollout.share <= 0.0 else route
    before = route.before
    return before if before is not None and before.model_version == version else None


def _identity(route: Route, limit: float) -> str:
    threshold = "" if route.cascade is None else f"{route.cascade.score} {route.cascade.limit!r}"
    return f"{route.model_version} {route.mode} {threshold} {limit!r}"
