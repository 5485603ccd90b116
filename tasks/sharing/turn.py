"""Which of the clones has the turn: a lease in the shared store, beside the lock on this clone's own folder. Without a shared store, the clone has it."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from redistill.errors import RedistillError, StageError
from redistill.io import lease, present_lease
from redistill.io.lease import Claim, Held, Lease, Seen
from redistill.io.shared_store import SharedStore, shared_store
from tasks.sharing import clone, completions

LEASE = "lease"
_NIGHT, _RUN = "night", "run"
_PUSH_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Night:
    """The last night that a clone began: when it was scheduled, and the flow run."""

    scheduled: dt.datetime
    run: str


@dataclass(frozen=True, slots=True)
class Busy:
    """Why this clone has no turn. ``tonight``: another clone has begun the night that this run is for."""

    sentence: str
    tonight: bool


def last_night(project: str) -> Night | None:
    """The last night that any clone began and ended; None without a shared store. One that is under way may have lost its machine.

    Raises:
        DataError: the store cannot be read.
    """
    store = shared_store(project)
    seen = None if store is None else Lease(store, LEASE, lease.ttl_s()).seen()
    return None if seen is None or not seen.ended else _night(seen.claim)


@contextlib.contextmanager
def leased(
    project: str, say: Callable[[str], None], night: Night | None, *, patient: bool, timeout_s: float = 6 * 3600.0
) -> Iterator[Busy | None]:
    """Hold the lease, and give the store new completions while it is held. A run that is not ``patient`` waits only until it knows whether the holder lives.

    Raises:
        StageError: still waiting after ``timeout_s``.
        DataError: the store cannot be used, or is empty although it was not.
    """
    store = shared_store(project)
    if store is None:
        yield None
        return
    clone.require_known(store)
    waiting = _Waiting(say, night, patient, time.monotonic() + timeout_s)
    held = Lease(store, LEASE, lease.ttl_s()).wait(waiting.goes_on, lambda before: _note(before, night))
    if held is None:
        assert waiting.busy is not None
        yield waiting.busy
        return
    with present_lease.holding(held), _pushing(store, held):
        yield None


class _Waiting:
    """Decides whether a run goes on waiting for the lease, each time that it sees a holder."""

    def __init__(self, say: Callable[[str], None], night: Night | None, patient: bool, deadline_s: float) -> None:
        self._say, self._night, self._patient, self._deadline_s = say, night, patient, deadline_s
        self._first: Seen | None = None
        self.busy: Busy | None = None

    def goes_on(self, seen: Seen) -> bool:
        begun = _night(seen.claim)
        same_night = self._night is not None and begun is not None and begun.scheduled >= self._night.scheduled
        if seen.ended:
            # A holder that was killed has not ended its claim: then this run takes over its night.
            if same_night and not self._patient:
                self.busy = Busy(f"the night has run already in the clone of {seen.claim.by}", tonight=True)
        elif not self._patient and self._first is not None and (self._first.claim.token, self._first.beat) != (seen.claim.token, seen.beat):
            after = "" if same_night else "; one more starts after it"
            self.busy = Busy(f"{'the night' if same_night else 'a cycle'} runs already in the clone of {seen.claim.by}{after}", same_night)
        elif time.monotonic() > self._deadline_s:
            raise StageError(
                f"waited too long for the cycle of {seen.claim.by}, which renews its lease; look at that machine, then run again"
            )
        elif self._first is None:
            self._first = seen
            self._say(f"{seen.claim.by} has the lease of this project (token {seen.claim.token}); waiting until it ends or is silent")
        return self.busy is None


def _night(claim: Claim) -> Night | None:
    try:
        return Night(dt.datetime.fromisoformat(claim.note[_NIGHT]), claim.note.get(_RUN, ""))
    except (KeyError, ValueError):
        return None


def _note(before: Claim | None, night: Night | None) -> dict[str, str]:
    """The newest night of the two: the claim and its night are one object, so no two clones can begin the same one."""
    earlier = None if before is None else _night(before)
    newest = max((each for each in (earlier, night) if each is not None), key=lambda each: each.scheduled, default=None)
    return {} if newest is None else {_NIGHT: newest.scheduled.astimezone(dt.UTC).isoformat(), _RUN: newest.run}


@contextlib.contextmanager
def _pushing(store: SharedStore, held: Held) -> Iterator[None]:
    """Completions are expensive, so the store gets them while the cycle works: the machine may be gone a minute later."""
    done = threading.Event()
    every_s = min(_PUSH_EVERY_S, lease.ttl_s() / 2)

    def push() -> None:
        try:
            completions.push(store)
        except RedistillError as error:
            logging.getLogger("redistill").warning("the shared store did not get the new completions: %s", error)

    def repeat() -> None:
        while not done.wait(every_s):
            push()

    thread = threading.Thread(target=repeat, daemon=True, name="sharing")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        push()
