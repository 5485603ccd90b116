"""A lease in a shared store: one holder at a time on all machines, with a token that grows by one at each change of hands.

Each claim is an object of its own, named by its token, and only ``create`` makes one. So two workers cannot get the same token, and the newest token in the
store names the holder. A holder shows that it lives by a counter beside its claim. A worker that waits watches that counter: if it has not changed for the
lease's time, as the worker's own clock measures it, the worker makes the next claim. No time of one machine is ever compared with the time of another, so
clocks may differ by any amount.

A holder that was replaced finds a newer token. It asks before it writes anything that others see (``Held.check``).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from redistill.errors import ConfigError, DataError, RedistillError, StageError
from redistill.io.shared_store import SharedStore

TTL = "REDISTILL_LEASE_S"
_DEFAULT_TTL_S, _LEAST_TTL_S = 120.0, 1.0
_RENEWALS = 6
"""So many renewals fit into the lease's time."""
_GIVES_UP = 2 / 3
"""A holder that could not renew for this share of the time stops before others may begin."""
_KEPT = 50
"""Claims that stay in the store, as a record of who worked."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One holder's claim. ``at`` is for people only: it is the holder's own clock. ``note`` is what the holder says of its work."""

    token: int
    holder: str
    host: str
    pid: int
    at: str
    note: dict[str, str] = field(default_factory=dict)

    @property
    def by(self) -> str:
        return f"{self.host} (process {self.pid})"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the store says now: the newest claim, whether its holder has ended it, and its counter."""

    claim: Claim
    ended: bool
    beat: bytes | None


def ttl_s() -> float:
    """The lease's time in seconds.

    Raises:
        ConfigError: the environment names none that can be used.
    """
    text = os.environ.get(TTL, "").strip()
    try:
        value = float(text or _DEFAULT_TTL_S)
    except ValueError:
        value = 0.0
    if not _LEAST_TTL_S <= value <= 86400.0:
        raise ConfigError(
            f"{TTL}={text} must be a number of seconds between {_LEAST_TTL_S:g} and 86400; leave it out for {_DEFAULT_TTL_S:g}"
        )
    return value


class Lease:
    """``folder`` is the part of the store that the lease has for itself. All workers must use the same time."""

    def __init__(self, store: SharedStore, folder: str, time_s: float) -> None:
        self._store, self._folder, self.time_s = store, folder, time_s

    def seen(self) -> Seen | None:
        """The newest claim; None if there never was one.

        Raises:
            DataError: the store cannot be read, or the claim is damaged.
        """
        names = self._store.names(self._folder)
        token = _newest(names)
        if not token:
            return None
        content = self._store.read(f"{self._folder}/{_name(token)}.json") or b""
        try:
            claim = Claim(**{**json.loads(content), "token": token})
        except (ValueError, TypeError):
            raise DataError(
                f"the lease {self._folder}/{_name(token)}.json in {self._store.address} is damaged; delete it, then run again"
            ) from None
        return Seen(claim, f"{_name(token)}.end" in names, self._store.read(f"{self._folder}/{_name(token)}.beat"))

    def wait(
        self,
        goes_on: Callable[[Seen], bool],
        note: Callable[[Claim | None], dict[str, str]] = lambda _: {},
        poll_s: float | None = None,
    ) -> Held | None:
        """Take the lease as soon as it is free, or as soon as its holder was silent for the lease's time; None if ``goes_on`` ends the wait.

        ``goes_on`` is asked each time that there is a claim, also where that has ended.
        """
        watched: tuple[int, bytes | None] | None = None
        since_s = 0.0
        while True:
            seen = self.seen()
            now_s = time.monotonic()
            if seen is not None and (seen.claim.token, seen.beat) != watched:
                watched, since_s = (seen.claim.token, seen.beat), now_s
            if seen is not None and not goes_on(seen):
                return None
            if seen is None or seen.ended or now_s - since_s >= self.time_s:
                if (held := self._claim(seen, note)) is not None:
                    return held
            else:
                time.sleep(poll_s or self.time_s / _RENEWALS / 2)

    def _claim(self, seen: Seen | None, note: Callable[[Claim | None], dict[str, str]]) -> Held | None:
        before = None if seen is None else seen.claim
        token = 1 if before is None else before.token + 1
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        claim = Claim(token, uuid.uuid4().hex, socket.gethostname(), os.getpid(), at, note(before))
        name = f"{self._folder}/{_name(token)}.json"
        content = {key: getattr(claim, key) for key in ("holder", "host", "pid", "at", "note")}
        started_s = time.monotonic()
        if not self._store.create(name, json.dumps(content).encode()) and claim.holder.encode() not in (self._store.read(name) or b""):
            return None
        names = self._store.names(self._folder)
        # Where a claim of this token was removed long ago, the name is free again, but the claim is not the newest one.
        if _newest(names) != token:
            return None
        self._require_exclusive(name)
        for old in names:
            if int(old.partition(".")[0]) <= token - _KEPT:
                self._store.remove(f"{self._folder}/{old}")
        return Held(self._store, self._folder, claim, self.time_s, started_s)

    def _require_exclusive(self, name: str) -> None:
        """Some servers that speak S3 overwrite an object that must not be there yet. On them a lease would have two holders."""
        content = self._store.read(name) or b""
        if self._store.create(name, content):
            raise ConfigError(
                f"the store {self._store.address} overwrites objects that must be new (it ignores If-None-Match), so it cannot hold a lease; use a store "
                "with conditional writes, or a shared folder"
            )


class Held:
    """A lease that this process holds. A thread renews it until ``release``."""

    def __init__(self, store: SharedStore, folder: str, claim: Claim, time_s: float, renewed_s: float) -> None:
        self.claim, self._store, self._folder, self._time_s = claim, store, folder, time_s
        self._renewed_s, self._beats = renewed_s, 0
        self._lost, self._done = "", threading.Event()
        self._on_loss: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._renewing, daemon=True, name="lease")
        self._thread.start()

    @property
    def token(self) -> int:
        return self.claim.token

    def check(self) -> None:
        """Ask the store whether the lease is still this process's. To be called before anything is written that others see.

        Raises:
            StageError: it is not.
        """
        if not self._lost:
            self._look()
        if self._lost:
            raise StageError(self._lost)

    def on_loss(self, action: Callable[[], None]) -> None:
        """What the thread calls if it sees that the lease is lost, for example to end processes."""
        self._on_loss.append(action)

    def release(self) -> None:
        """End the claim, so that the next worker need not wait."""
        self._done.set()
        self._thread.join()
        if not self._lost:
            # Without the mark others only wait a little longer.
            with contextlib.suppress(RedistillError):
                self._store.write(f"{self._folder}/{_name(self.token)}.end", b"")

    def _renewing(self) -> None:
        while not self._done.wait(self._time_s / _RENEWALS):
            if not self._lost:
                self._renew()
            if self._lost:
                for action in self._on_loss:
                    action()
                return

    def _renew(self) -> None:
        started_s = time.monotonic()
        self._look()
        if self._lost:
            return
        try:
            self._beats += 1
            self._store.write(f"{self._folder}/{_name(self.token)}.beat", str(self._beats).encode())
            self._renewed_s = started_s
        except RedistillError:
            self._too_long("could not be renewed")

    def _look(self) -> None:
        try:
            newest = _newest(self._store.names(self._folder))
        except RedistillError:
            self._too_long("could not be read")
            return
        if newest != self.token:
            self._lost = self._replaced(newest)
        else:
            # A process that was stopped, with its machine, does not know what happened meanwhile.
            self._too_long("was not renewed")

    def _too_long(self, what: str) -> None:
        if not self._lost and (silent_s := time.monotonic() - self._renewed_s) > _GIVES_UP * self._time_s:
            self._lost = (
                f"the lease {self._folder} {what} for {silent_s:.0f} s of its {self._time_s:g} s, so another worker may begin; this cycle stops and writes "
                "nothing more. Check the store, then run again"
            )

    def _replaced(self, newest: int) -> str:
        by = f"token {newest}"
        with contextlib.suppress(RedistillError):
            seen = Lease(self._store, self._folder, self._time_s).seen()
            by = f"{seen.claim.by} with token {newest}" if seen is not None else by
        return (
            f"this worker lost its lease (token {self.token}): {by} has it now; this cycle stops and writes nothing more. What it finished is kept; "
            "`redistill status` shows what the other worker did"
        )


def _name(token: int) -> str:
    return f"{token:012d}"


def _newest(names: list[str]) -> int:
    tokens = [int(name.partition(".")[0]) for name in names if name.endswith(".json") and name.partition(".")[0].isdigit()]
    return max(tokens, default=0)
