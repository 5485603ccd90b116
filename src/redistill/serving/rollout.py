"""The steps by which a new version gets the traffic of the one before it: what the flag says at the start, at each step, and when it is stopped."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

from redistill.errors import ConfigError
from redistill.serving.types import Rollout, Route


def started(after: Route, before: Route, steps: Sequence[float]) -> Route:
    """The route after a promotion, with the first share (``steps`` are percent); as it is where nothing was live before, or there is no step below 100.

    Where a rollout was still under way, the version before it stays the one that the new version is compared with: the one between did not prove itself.
    """
    first = steps[0] / 100 if steps else 1.0
    old = before.before or before
    if first >= 1.0 or before.mode == "teacher" or old.model_version in (None, after.model_version) or after.mode == "teacher":
        return after
    assert old.model_version is not None
    return replace(after, rollout=Rollout(old.model_version, old.cascade, first, _now()))


def next_share(share: float, steps: Sequence[float]) -> float | None:
    """The share after this one; None if it was the last step."""
    return next((step / 100 for step in sorted(steps) if step / 100 > share + 1e-9), None if share >= 1.0 else 1.0)


def with_share(route: Route, seen: Rollout, share: float | None, reason: str) -> Route:
    """The route with another share for the new version; None ends the rollout: it has all of the traffic. Unchanged if ``seen`` is not under way any more."""
    if route.rollout != seen:
        return route
    rollout = None if share is None else replace(seen, share=share, since=_now())
    return replace(route, rollout=rollout, reason=reason, changed_at=_now())


def moved_by_hand(route: Route, percent: float, reason: str) -> Route:
    """The route with the share that an operator gives the new version; 100 ends the rollout.

    Raises:
        ConfigError: no rollout is under way, it is no share, or there is no reason.
    """
    if not reason.strip():
        raise ConfigError("give a reason with --reason; it is recorded in the flag")
    if not 0.0 <= percent <= 100.0:
        raise ConfigError(f"a share of {percent:g} % is impossible; give a number between 0 and 100")
    if route.rollout is None:
        raise ConfigError("no rollout is under way; a promotion starts one where serve.rollout_steps is set (docs/serving.md)")
    return with_share(route, route.rollout, None if percent == 100.0 else percent / 100, reason)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
