"""Who answers a request, decided before any server is asked: by the flag, by what is known of the student's version, and by the request itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from redistill.promotion.cascade import Engine
from redistill.serving.router.types import Asked, Side
from redistill.serving.types import Route


@dataclass(frozen=True, slots=True)
class Live:
    """What holds now: the route in the flag, and whether the student's server was shown to serve the version that the flag names.

    ``unverified`` says why it was not; empty where it was. ``engine`` is what computes the student's completions; None where the server does not say it.
    """

    route: Route
    readable: bool
    unverified: str = "not checked yet"
    engine: Engine | None = None
    place: str = "student"
    """Which of the students' servers has the version."""
    older: Live | None = None
    """The version before, during a rollout: what holds for the keys that the new one does not have yet."""

    def chosen(self, key: str, salt: str) -> Live:
        """What holds for a key. Until the new version is verified, and where it is not verified any more, the version before answers if it is."""
        rollout, older = self.route.rollout, self.older
        if rollout is None or older is None:
            return self
        # Another salt than the share's: who is in a canary says nothing about who sees the new version.
        of_new = in_share(key, rollout.share, f"{salt} rollout")
        if of_new and self.unverified and not older.unverified:
            return older
        return self if of_new else older


@dataclass(frozen=True, slots=True)
class Plan:
    """``first`` is asked first. ``reason`` is one of a few words, ``detail`` the rest of the sentence.

    ``scored``: the student's completion is held back until its score is known. ``student_may_help``: the student may answer if the teacher cannot.
    """

    first: Side
    reason: str
    detail: str = ""
    scored: bool = False
    student_may_help: bool = False

    def may_shadow(self, live: Live) -> bool:
        """Whether the other model may be asked beside it: not for a caller who demands the teacher, nor of a student that is not verified."""
        known = live.readable and live.unverified == "" and bool(live.route.model_version) and live.route.measured_for(live.engine)
        return known and self.reason in ("mode", "share", "pin", "slice")


def planned(asked: Asked, live: Live, *, salt: str, help_when_down: bool) -> Plan:
    """The plan for one request. The teacher answers wherever something is unknown or cannot be read."""
    plan = _by_route(asked, live, salt)
    verified = live.unverified == "" and asked.prompt is not None
    # A pin, a caller's header or a guard that demands the teacher is not overridden by an outage.
    may_help = help_when_down and verified and plan.reason in ("mode", "share") and live.route.model_version is not None
    return plan if not may_help else Plan(plan.first, plan.reason, plan.detail, plan.scored, student_may_help=True)


def _by_route(asked: Asked, live: Live, salt: str) -> Plan:
    route = live.route
    if not live.readable:
        return Plan("teacher", "no-route", "the flag cannot be read")
    if asked.demands_teacher:
        return Plan("teacher", "demanded")
    if route.pin == "teacher":
        return Plan("teacher", "pin")
    if route.answers == "teacher":
        # Not the flag's reason, which has figures of the gates: callers need not know them.
        return Plan("teacher", "mode")
    if asked.prompt is None:
        return Plan("teacher", "not-trained", asked.why_not)
    if asked.prompt.slice in route.teacher_slices and route.pin == "none":
        return Plan("teacher", "slice", asked.prompt.slice)
    if live.unverified:
        return Plan("teacher", "unverified", live.unverified)
    if route.pin == "none" and not in_share(asked.key, route.share, salt):
        return Plan("teacher", "share", f"{route.share:.0%} of the keys are the student's")
    if route.answers == "student":
        return Plan("student", "pin" if route.pin == "student" else "mode")
    if not route.measured_for(live.engine):
        return Plan("teacher", "unverified", f"the threshold was not measured for {live.engine or 'this server'}")
    return Plan("student", "mode", scored=True)


def in_share(key: str, share: float, salt: str) -> bool:
    """Whether a key belongs to the share of the traffic. The same on every machine and after every restart; a larger share has all keys of a smaller one."""
    if share >= 1.0:
        return True
    digest = hashlib.sha256(f"{salt} {key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) < share * 2.0**64
