"""Rehearses a mode or a threshold on the comparisons that this project's router has logged."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from redistill.errors import ConfigError, DataError
from redistill.params import Params
from redistill.promotion.thresholds.bands import BANDS
from redistill.promotion.thresholds.params import limits_of
from redistill.serving.logged_lines import logged_lines
from redistill.serving.rehearsal import FEWEST, Rehearsal, Rule, Selection, more_needed, rehearsed, selected
from redistill.serving.route_flag import read_route
from redistill.serving.router.shadow import SCORE
from redistill.serving.types import Mode, Route
from tasks.locking.locked_teacher import read_lock
from tasks.paths import COMPARISONS
from tasks.registry.transitions import FLAGS

_UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """``promised`` is the disagreement that ``route.max_disagreement`` allows; ``missing`` how many more comparisons would show it, None if it is exceeded."""

    version: str
    now: Rule
    then: Rule
    selection: Selection
    result: Rehearsal
    promised: float
    missing: int | None
    rollout: str = ""
    """What the flag gives to another version; empty where no rollout is under way."""


def rehearse(params: Params, mode: Mode, threshold: float | None, since: str, file: Path = COMPARISONS) -> Rehearsed:
    """Replay what was logged since then.

    Raises:
        ConfigError: a time that cannot be read, or a threshold that is missing or plays no part.
        DataError: too few comparisons.
    """
    route, lines = read_route(FLAGS), list(logged_lines(file, time.time() - seconds_of(since)))
    version = route.model_version or next((str(x["version"]) for x in reversed(lines) if x.get("version")), "")
    now, then = _present(route), _rule(route, mode, threshold)
    selection = selected(lines, version, (now, then))
    n = len(selection.used)
    if n < FEWEST:
        others = "".join(f"; {count:,} {why} were left out" for why, count in selection.left_out.items())
        raise DataError(
            f"{n:,} comparisons of version {version or 'none'} in the last {since} are too few: at least {FEWEST} are needed, so {FEWEST - n} are missing"
            f"{others}; wait, give a longer --since, or raise serve.shadow_share, which is {params.serve.shadow_share:g}"
        )
    result = rehearsed(selection.used, now, then, _price(params))
    promised = limits_of(params.route, params.promote).max_disagreement
    missing = more_needed(1.0 - result.measures["agreement"].then.value, n, promised)
    return Rehearsed(version, now, then, selection, result, promised, missing, _rollout(route))


def seconds_of(since: str) -> float:
    """Seconds in a length of time such as ``7d``, ``12h`` or ``30m``.

    Raises:
        ConfigError: it is none.
    """
    match = re.fullmatch(r"(\d{1,5})([mhd])", since.strip())
    if match is None or int(match[1]) == 0:
        raise ConfigError(f"--since {since!r} is no length of time; give a number with m, h or d, such as 30m, 12h or 7d")
    return int(match[1]) * _UNITS[match[2]]


def _present(route: Route) -> Rule:
    """What the flag says now. A pin is for all slices and keys."""
    slices, share = (route.teacher_slices, route.share) if route.pin == "none" else ((), 1.0)
    cascade = route.cascade if route.answers == "cascade" else None
    if cascade is None:
        return Rule(route.answers, teacher_slices=slices, share=share)
    return Rule("cascade", cascade.score, cascade.limit, slices, share)


def _rollout(route: Route) -> str:
    if route.rollout is None or route.answers == "teacher":
        return ""
    share, before = route.rollout.share, route.rollout.version
    return (
        f"a rollout is under way: version {route.model_version} has {share:.0%} of the keys, and version {before} the others; "
        f"both columns are of version {route.model_version} with all of them"
    )


def _rule(route: Route, mode: Mode, threshold: float | None) -> Rule:
    if mode != "cascade":
        if threshold is not None:
            raise ConfigError(f"--threshold plays no part in mode {mode}; rehearse `cascade` with it")
        return Rule(mode, teacher_slices=route.teacher_slices, share=route.share)
    cascade = route.cascade
    if threshold is None and cascade is None:
        raise ConfigError("the live system has no threshold; give one with --threshold, such as -0.7 (docs/cascade.md)")
    if cascade is None:
        assert threshold is not None
        return Rule("cascade", SCORE, threshold + BANDS[SCORE], route.teacher_slices, route.share)
    limit = cascade.limit if threshold is None else threshold + cascade.band
    return Rule("cascade", cascade.score, limit, route.teacher_slices, route.share)


def _price(params: Params) -> float | None:
    """USD of a second of a model on this machine; None where it has no price, or where an endpoint is paid by tokens of prompts, which no comparison has."""
    hourly = params.economics.machine_usd_per_hour
    return None if hourly is None or read_lock().backend == "openai" else hourly / 3600.0
