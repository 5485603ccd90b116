"""Watches live traffic: is the disagreement with the teacher above what the threshold promised? It may be looked at after every request.

The state belongs to one system: version, threshold and limit. It is kept in a file, so that a restart forgets nothing. When the test rejects, the route falls to
the teacher, once; a person's pin is not touched.

Source: ``redistill.statistics.e_process``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
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


class Guard:
    """``fall_back`` sends the traffic to the teacher and tells people; it gets the reason, and runs once, until somebody gives the system its traffic back."""

    def __init__(self, file: Path, limit: float, route: Callable[[], Route], fall_back: Callable[[str, Route], None]) -> None:
        self._file, self._limit, self._route, self._fall_back = file, limit, route, fall_back
        self._identity, self._state, self._alarmed = "", EProcess(limit), ""
        self._unsaved = 0

    @property
    def state(self) -> EProcess:
        return self._state

    def observe(self, compared: Compared) -> None:
        """Count one comparison. Those of a version that is not live any more say nothing about the one that is."""
        route = self._route()
        if route.model_version != compared.version:
            return
        self._turn_to(_identity(route, self._limit))
        if self._alarmed and self._alarmed != route.changed_at:
            # Somebody gave it its traffic back, and may be wrong again.
            self._state, self._alarmed = EProcess(self._limit), ""
        self._state = self._state.after(compared.disagreement)
        self._unsaved += 1
        alarm = self._state.rejects(ALPHA) and not self._alarmed
        # Comparisons that were under way at the alarm are of the same route.
        self._alarmed = route.changed_at if alarm else self._alarmed
        if alarm or self._unsaved >= _SAVE_EVERY:
            self.save()
        if alarm:
            self._fall_back(
                f"the guard of live traffic: version {compared.version} disagrees with the teacher on {self._state.mean:.1%} of {self._state.n:,} sampled requests, "
                f"and {self._limit:.1%} was promised (p {self._state.p_value:.2g}, level {ALPHA:g})",
                route,
            )

    def save(self) -> None:
        """Keep the state for the next start. A disk that refuses it stops neither an answer nor an alarm."""
        self._unsaved = 0
        try:
            write_json(self._file, {"system": self._identity, "alarmed": self._alarmed, "state": asdict(self._state)})
        except DataError as error:
            say(f"warning: after a restart, the guard will not know what it has seen since: {error}")

    def _turn_to(self, identity: str) -> None:
        """Begin with an empty state for another system, or continue the kept state of this one."""
        if identity == self._identity:
            return
        self._identity, self._state, self._alarmed, self._unsaved = identity, EProcess(self._limit), "", 0
        kept = self._kept()
        if kept.get("system") != identity:
            return
        try:
            state = {**kept["state"], "capital": tuple(kept["state"]["capital"])}
            self._state, self._alarmed = EProcess(**state), str(kept["alarmed"] or "")
        except (KeyError, TypeError, ValueError) as error:
            say(f"warning: {self._file} is not a state of the guard ({error}); the guard begins with an empty one")

    def _kept(self) -> dict[str, Any]:
        try:
            tree = read_json(self._file)
        except (OSError, ValueError):
            return {}
        return tree if isinstance(tree, dict) else {}


def _identity(route: Route, limit: float) -> str:
    threshold = "" if route.cascade is None else f"{route.cascade.score} {route.cascade.limit!r}"
    return f"{route.model_version} {route.mode} {threshold} {limit!r}"
