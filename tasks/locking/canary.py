"""Asks an endpoint its canaries, and remembers the models that it has served: each is an *epoch*, whose id is a part of the teacher's fingerprint."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from redistill.data.types import Column, Message, Prompt
from redistill.errors import DataError, TeacherError
from redistill.io.digests import canonical_digest
from redistill.io.json import write_json
from redistill.io.parquet import read_records
from redistill.operations.canary import REPEATS, Canary, CanaryReply, changed, differing
from redistill.params import Params
from redistill.teacher.endings import FAILED
from redistill.teacher.openai import URL_VARIABLE, OpenAITeacher, from_environment
from redistill.teacher.prompt_file import read_prompt
from redistill.teacher.reasoning import split_reasoning
from redistill.teacher.requests import requests_for
from redistill.teacher.types import TeacherRequest
from tasks.locking.licence_check import reviewed
from tasks.locking.locked_teacher import TEACHER
from tasks.paths import ARTIFACTS, STATE

CANARIES = STATE / "canary.json"
_MOST = 128
_MAX_TOKENS = 48
_SPLITS = ("calibration", "pool")


@dataclass(frozen=True, slots=True)
class Epoch:
    """One model that the endpoint served: its canaries, and how they were asked (a digest of endpoint, prompts and sampling)."""

    id: str
    asked_as: str
    canaries: tuple[Canary, ...]


def epoch(params: Params, max_age: dt.timedelta = dt.timedelta(0)) -> Epoch | None:
    """Which model the endpoint serves now; None if there are no prompts yet. Within ``max_age`` of the last probe, nothing is asked.

    Raises:
        TeacherError: the endpoint does not answer.
    """
    requests = _requests(params)
    if not requests:
        return None
    asked_as = _asked_as(params, requests)
    state = _read()
    known = [e for e in _epochs(state) if e.asked_as == asked_as]
    probed = state.get("probed_at")
    if known and state.get("last") == known[-1].id and probed and dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(probed) < max_age:
        return known[-1]
    reviewed(params.governance, params.teacher, params.data)
    teacher = from_environment(params.teacher, chat=params.data.format == "chat")
    try:
        now = _same(known, teacher, requests, params)
        if now is None:
            now = _measured(teacher, requests, asked_as, params)
    finally:
        teacher.close()
    _write([*(e for e in _epochs(state) if e.id != now.id), now])
    return now


def moved_slices(before: Epoch, now: Epoch) -> dict[str, tuple[int, int]]:
    """Slice → canaries that differ between two epochs, and canaries that both have."""
    then = {c.prompt_id: c for c in before.canaries}
    counts: dict[str, tuple[int, int]] = {}
    for canary in now.canaries:
        if canary.prompt_id in then:
            moved, shared = counts.get(canary.slice, (0, 0))
            same = {r.text for r in canary.replies} & {r.text for r in then[canary.prompt_id].replies}
            counts[canary.slice] = (moved + (not same), shared + 1)
    return counts


def find(epoch_id: str) -> Epoch | None:
    """An epoch that was measured here."""
    return next((e for e in _epochs(_read()) if e.id == epoch_id), None)


def _same(known: Sequence[Epoch], teacher: OpenAITeacher, requests: Sequence[TeacherRequest], params: Params) -> Epoch | None:
    """The newest epoch that what the endpoint serves does not differ from; None if it is none of them, also in a second probe."""
    if not known:
        return None
    first = _probe(teacher, requests, params)
    for candidate in reversed(known):
        if not differing(candidate.canaries, first):
            return candidate
    second = _probe(teacher, requests, params)
    return next((e for e in reversed(known) if not changed(e.canaries, first, second)), None)


def _measured(teacher: OpenAITeacher, requests: Sequence[TeacherRequest], asked_as: str, params: Params) -> Epoch:
    """A new baseline: every canary asked several times."""
    probes = [_probe(teacher, requests, params) for _ in range(REPEATS)]
    canaries = tuple(Canary(r.prompt_id, r.slice, tuple(probe[r.prompt_id] for probe in probes)) for r in requests)
    replies = [[c.prompt_id, sorted({r.text for r in c.replies})] for c in canaries]
    return Epoch(canonical_digest([asked_as, replies])[:16], asked_as, canaries)


def _probe(teacher: OpenAITeacher, requests: Sequence[TeacherRequest], params: Params) -> dict[str, CanaryReply]:
    # The same whatever the project asks for, so that a longer completion there is not another teacher here.
    greedy = replace(params.generate, temperature=0.0, top_p=1.0, samples=1, max_tokens=_MAX_TOKENS, seed=0)
    replies = [a for a in teacher.complete(requests, greedy) if a.finish_reason != FAILED]
    answers = {a.request.prompt_id: CanaryReply(_compared(a.text), a.mean_logprob) for a in replies}
    if len(answers) < len(requests):
        raise TeacherError(f"the endpoint answered {len(answers)} of {len(requests)} canaries; check that it works, then run again")
    return answers


def _requests(params: Params) -> list[TeacherRequest]:
    """The canaries, the same ones each time: of each slice the prompts with the smallest ids."""
    stored = _read().get("prompts")
    prompts = (
        [
            Prompt.of(
                tuple(Message(**m) for m in p["messages"]),
                "",
                p["slice"],
                None,
                "",
                columns=tuple(Column(**c) for c in p.get("columns", ())),
            )
            for p in stored
        ]
        if stored
        else _choose(params)
    )
    return requests_for(prompts, params.data, None, teacher_prompt=read_prompt(TEACHER))


def _choose(params: Params) -> list[Prompt]:
    try:
        prompts = [p for split in _SPLITS for p in read_records(ARTIFACTS / "prompts" / f"{split}.parquet", Prompt)]
    except DataError:
        return []
    slices: dict[str, list[Prompt]] = {}
    for prompt in sorted(prompts, key=lambda p: p.id):
        slices.setdefault(prompt.slice, []).append(prompt)
    return [p for members in slices.values() for p in members[: params.teacher.canaries_per_slice]][:_MOST]


def _asked_as(params: Params, requests: Sequence[TeacherRequest]) -> str:
    parts: list[Any] = [params.teacher.model, os.environ.get(URL_VARIABLE, ""), params.data.format, [[r.prompt, r.stop] for r in requests]]
    parts += [params.teacher.request] if params.teacher.request else []
    parts += [[f.kind, f.text] for f in [requests[0].form] if f is not None] if requests else []
    parts += [prompt.digest] if (prompt := read_prompt(TEACHER)) else []
    return canonical_digest(parts)[:16]


def _read() -> dict[str, Any]:
    try:
        return dict(json.loads(CANARIES.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _epochs(state: dict[str, Any]) -> list[Epoch]:
    return [
        Epoch(
            e["id"],
            e["asked_as"],
            tuple(Canary(c[0], c[1], tuple(CanaryReply(_compared(r[0]), r[1]) for r in c[2])) for c in e["canaries"]),
        )
        for e in state.get("epochs", [])
    ]


def _compared(text: str) -> str:
    """A reply as it is compared: earlier versions kept the space around it and the reasoning in front of it, and neither makes another model."""
    return split_reasoning(text)[1].strip()


def _write(epochs: Sequence[Epoch]) -> None:
    """The newest epoch is the last one; old ones are kept, so that an endpoint that goes back is recognised."""
    state = _read()
    tree = [
        {
            "id": e.id,
            "asked_as": e.asked_as,
            "canaries": [[c.prompt_id, c.slice, [[r.text, r.mean_logprob] for r in c.replies]] for c in e.canaries],
        }
        for e in epochs[-20:]
    ]
    write_json(
        CANARIES, {**state, "epochs": tree, "last": epochs[-1].id, "probed_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds")}
    )


def keep_prompts(params: Params) -> None:
    """Fix the canaries once: later prompts of the project do not change them."""
    state = _read()
    if "prompts" not in state and (chosen := _choose(params)):
        prompts = [
            {"messages": [asdict(m) for m in p.messages], "slice": p.slice, "columns": [asdict(c) for c in p.columns]} for p in chosen
        ]
        write_json(CANARIES, {**state, "prompts": prompts})
