"""Judges one window of live traffic: reads it, compares it with the reference, keeps the verdict, and writes the page."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

from redistill.errors import DataError
from redistill.io.digests import file_digest
from redistill.params import Params
from redistill.promotion.thresholds.params import limits_of
from redistill.serving.drift.measures import judged
from redistill.serving.drift.params import DriftParams
from redistill.serving.drift.types import Live, Reference, Window
from redistill.serving.drift.verdict import next_verdict
from redistill.serving.route_flag import read_route
from redistill.serving.types import Route
from tasks.registry.transitions import FLAGS
from tasks.results.rows import shown_rows
from tasks.serving.drift_reference import reference_of
from tasks.serving.drift_state import DriftState, one_monitor, read_state, write_state
from tasks.serving.live_window import Span, logs_there, read_window
from tasks.serving.traffic_page import table_of, write_page

LAG_S = 60.0
"""The router writes its logs later than it answers, and a shard of the traffic log when it is ``traffic.shard_s`` old. So much of the newest traffic belongs to the next window."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The state after this run. ``window`` is None where there were too few requests to judge: then the window stays open. ``rows`` is the table of measures."""

    state: DriftState
    window: Window | None
    sentence: str
    rows: list[dict[str, str]]
    notes: tuple[str, ...] = ()


def lag_s(params: Params) -> float:
    """Seconds after which everything of a request is in the logs."""
    return LAG_S + (params.traffic.shard_s if params.traffic.log else 0.0)


def monitor_traffic(params: Params, now: float | None = None) -> Seen:
    """Judge the traffic since the last window.

    Raises:
        DataError: there are no prompts to compare with, or the disk is full.
    """
    end = (dt.datetime.now(dt.UTC).timestamp() if now is None else now) - lag_s(params)
    route, rows = read_route(FLAGS), shown_rows(params.data)
    if not rows.file.is_file():
        raise DataError(f"{rows.file} is missing, so there is nothing to compare live traffic with; run a cycle with `redistill run`")
    promised = limits_of(params.route, params.promote).max_disagreement
    with one_monitor():
        state, notes = _state(params.drift, route, file_digest(rows.file), end)
        live = read_window(Span(state.since, state.until, end), state.version, promised, params.data.grammar)
        if (waits := _open(live, params.drift)) is not None:
            return Seen(state, None, f"{state.verdict}: {waits}", [], (*notes, *live.notes))
        reference = reference_of(params, route, state.system)
        window = judged(reference, live, params.drift, promised=promised, near_duplicate=params.intake.near_duplicate)
        window = replace(window, verdict=next_verdict((*state.windows, window), params.drift))
        state = state.after(window)
        write_state(state)
    return _shown(params, state, window, reference, live, notes)


def _shown(params: Params, state: DriftState, window: Window, reference: Reference, live: Live, notes: tuple[str, ...]) -> Seen:
    seen = Seen(state, window, f"{window.verdict}: {sentence_of(window)}", table_of(window), (*notes, *live.notes))
    write_page(params, state.version, seen.sentence, state.windows, reference, replace(live, notes=seen.notes))
    return seen


def sentence_of(window: Window) -> str:
    """What is raised, or that nothing is."""
    if not window.judged:
        return f"nothing could be judged in {window.requests:,} requests"
    raised = [f"{m.name} {m.value:.3g} ({m.by_chance.low:.3g} to {m.by_chance.high:.3g} by chance)" for m in window.measures
              if m.raised and m.value is not None and m.by_chance is not None]  # fmt: skip
    return f"{', '.join(raised) or 'nothing raised'} in {window.requests:,} requests"


def _state(params: DriftParams, route: Route, digest: str, now: float) -> tuple[DriftState, tuple[str, ...]]:
    """The kept state if it is of this version and reference, else an empty one, as after traffic was given back; corrected where a clock was set back."""
    kept = read_state()
    system = _system(route, digest, kept)
    if kept is None or kept.system != system or _given_back(kept, route):
        earliest = now - 3600.0 * params.longest_hours
        begin = min(now, max(earliest, _changed(route)))
        version = route.model_version or ""
        return DriftState(system, version, begin, begin), ()
    if route.mode == "teacher" and route.changed_at and not kept.fell_at:
        # Kept at once: this window may stay open until after the traffic was given back.
        kept = replace(kept, fell_at=route.changed_at)
        write_state(kept)
    if kept.until <= now:
        return kept, ()
    note = "the clock is earlier than at the last window, so a new window begins now"
    return replace(kept, since=min(kept.since, now), until=now), (note,)


def _system(route: Route, digest: str, kept: DriftState | None) -> str:
    """Version, threshold and reference. After a fall to the teacher no version is live: then the pair that was watched goes on."""
    if route.model_version is None:
        return kept.system if kept is not None and kept.system.endswith(digest) else f"none {digest}"
    threshold = "" if route.cascade is None else f"{route.cascade.score} {route.cascade.limit!r} "
    return f"{route.model_version} {threshold}{digest}"


def _given_back(kept: DriftState, route: Route) -> bool:
    """Whether the version has its traffic again after a fall. What was seen before has been answered, and it may be wrong again."""
    return bool(kept.fell_at) and route.mode != "teacher" and route.changed_at != kept.fell_at


def _changed(route: Route) -> float:
    try:
        return dt.datetime.fromisoformat(route.changed_at).timestamp()
    except ValueError:
        return 0.0


def _open(live: Live, params: DriftParams) -> str | None:
    """Why the window stays open; None if it can be judged."""
    since = dt.datetime.fromtimestamp(live.begin, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    if not logs_there():
        return "no router has logged a request here; start one with `redistill serve`"
    if live.requests < params.min_rows:
        return f"{live.requests:,} requests since {since}; a window has at least {params.min_rows:,} (drift.min_rows)"
    few = not live.text_gap and len(live.texts) < params.min_rows
    if few and live.end - live.begin < 3600.0 * params.longest_hours:
        return (
            f"{len(live.texts):,} logged texts since {since}; the window waits for {params.min_rows:,}, or {params.longest_hours:g} hours"
        )
    return None
