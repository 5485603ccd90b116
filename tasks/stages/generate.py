"""Stage ``generate``: the teacher completes every pool and calibration prompt once, also if the stage is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from redistill.data.params import DataParams
from redistill.data.types import Prompt
from redistill.distillation.soft_targets.from_teacher import from_listed
from redistill.distillation.soft_targets.shards import write_soft_targets
from redistill.distillation.types import SignalKey, SoftTargets
from redistill.errors import TeacherError
from redistill.io.atomic import replacing_directory
from redistill.io.json import write_json
from redistill.io.parquet import read_records, write_records
from redistill.models.tokenizers import encode, vocabulary_size
from redistill.runtime.progress import Progress, continues
from redistill.teacher.backend import Teacher
from redistill.teacher.completion_store import LOCAL, CompletionStore, request_key
from redistill.teacher.endings import STOP, WITHOUT_COMPLETION, ending
from redistill.teacher.params import GenerateParams, TeacherParams
from redistill.teacher.requests import requests_for
from redistill.teacher.types import TeacherAnswer, TeacherCompletion, TeacherRequest
from redistill.teacher.use import TeacherUse, report_teacher_use
from tasks.locking.locked_teacher import LockedTeacher, read_lock
from tasks.locking.open_teacher import open_teacher
from tasks.paths import ARTIFACTS, STATE
from tasks.results.rates import RateMeter

CAPTURED_BITS = 16
"""Precision of captured probabilities: high, because ``score`` decides later what training reads."""
_STORED_AT_ONCE = 16
_MOST_LISTED = 5


def generate(data: DataParams, teacher: TeacherParams, generate: GenerateParams) -> None:
    """Request the completions that are not in the store, then write all completions and the soft targets that came with them."""
    lock = read_lock()
    prompts = [p for split in ("pool", "calibration") for p in read_records(ARTIFACTS / "prompts" / f"{split}.parquet", Prompt)]
    requests = requests_for(prompts, data, lock.tokenizer, generate.samples, lock.prompt)
    store = CompletionStore(STATE / "store" / "completions.sqlite")
    try:
        answers, request_count = ask(requests, lock, teacher, data, generate, store)
    finally:
        store.close()
    write(answers, request_count, lock, generate, {p.id: p.source_id for p in prompts})


def ask(
    requests: Sequence[TeacherRequest],
    lock: LockedTeacher,
    teacher: TeacherParams,
    data: DataParams,
    params: GenerateParams,
    store: CompletionStore,
    open_with: Callable[[LockedTeacher, TeacherParams, DataParams], Teacher] = open_teacher,
) -> tuple[list[TeacherAnswer], int]:
    """Completions in the order of the requests, and how many of them were not in the store.

    The engine is opened (by ``open_with``) only if one is missing, and closed at the end, also after an error.
    """
    generated_by = None if lock.backend == "openai" else LOCAL
    requests = [replace(r, teacher=_teacher(lock, r, params, generated_by, store)) for r in requests]
    keys = [request_key(r.teacher, r, params, generated_by) for r in requests]
    stored = {k: _stored(store, k, r, lock) for k, r in zip(keys, requests, strict=True)}
    store.name_teachers([(k, r.teacher) for k, r in zip(keys, requests, strict=True) if stored[k] is not None])
    store.name_prompts([(k, r.prompt_id) for k, r in zip(keys, requests, strict=True) if stored[k] is not None])
    missing = [(k, r) for k, r in dict(zip(keys, requests, strict=True)).items() if stored[k] is None]
    if len(missing) < len(stored):
        continues("generate", f"{len(stored) - len(missing)} of {len(stored)} completions are in the store")
    if missing:
        progress = Progress("generate", len(requests), "prompts")
        progress(len(requests) - len(missing))
        engine = open_with(lock, teacher, data)
        try:
            _ask_missing(engine, missing, params, store, stored, progress, len(requests), endpoint=lock.backend == "openai")
        finally:
            engine.close()
            report_teacher_use("generate", _use(stored, {key for key, _ in missing}))
    else:
        report_teacher_use("generate", _use(stored, ()))
    answers = [stored[k] for k in keys]
    absent = sum(a is None for a in answers)
    if absent:
        raise TeacherError(
            f"the teacher returned no completion for {absent} of {len(requests)} prompts; all completions so far are stored; run again"
        )
    return [a for a in answers if a is not None], len(missing)


def _stored(store: CompletionStore, key: str, request: TeacherRequest, lock: LockedTeacher) -> TeacherAnswer | None:
    """The stored completion. An endpoint's empty one may have been a hiccup, so it counts as missing; local weights would write it again."""
    answer = store.get(key, request)
    return None if answer is not None and lock.backend == "openai" and _is_hiccup(answer) else answer


def _is_hiccup(answer: TeacherAnswer) -> bool:
    """An empty completion that ended by itself. One that used up its tokens, for example for reasoning, would do so again."""
    return not answer.text.strip() and ending(answer.finish_reason) == STOP


def _use(answers: Mapping[str, TeacherAnswer | None], asked: Collection[str]) -> TeacherUse:
    """Rows and completion tokens, asked now and stored before. Some endpoints return no token ids; their words are counted instead."""

    def tokens(chosen: Iterable[str]) -> int:
        return sum(len(a.token_ids) or len(a.text.split()) for key in chosen if (a := answers[key]) is not None)

    answered, stored = [key for key in asked if answers[key] is not None], answers.keys() - set(asked)
    return TeacherUse(len(answered), tokens(answered), len(stored), tokens(stored))


def _teacher(lock: LockedTeacher, request: TeacherRequest, params: GenerateParams, generated_by: str | None, store: CompletionStore) -> str:
    """The teacher that answers for the request's slice.

    An earlier teacher cannot be asked any more. What it has not completed, the present one completes.
    """
    named, present = lock.answers_from(request.slice), lock.fingerprint.digest
    if named == present or present not in lock.answers.values():
        return named
    return named if _stored(store, request_key(named, request, params, generated_by), request, lock) is not None else present


def _ask_missing(
    engine: Teacher,
    missing: Sequence[tuple[str, TeacherRequest]],
    params: GenerateParams,
    store: CompletionStore,
    stored: dict[str, Any],
    progress: Progress,
    total: int,
    *,
    endpoint: bool,
) -> None:
    done = total - len(missing)
    # Longest first, so that memory peaks early.
    ordered = sorted(missing, key=lambda pair: -len(pair[1].prompt))
    key_of = {(r.prompt_id, r.sample_index): k for k, r in ordered}
    waiting: list[tuple[str, TeacherAnswer]] = []
    meter = RateMeter("generate")
    try:
        for answer in engine.complete([r for _, r in ordered], params):
            key = key_of[answer.request.prompt_id, answer.request.sample_index]
            stored[key] = answer
            # A prompt that got no completion is asked again by the next cycle that generates.
            if answer.finish_reason not in WITHOUT_COMPLETION and not (endpoint and _is_hiccup(answer)):
                waiting.append((key, answer))
            done += 1
            progress(done)
            meter.count()
            if len(waiting) >= _STORED_AT_ONCE:
                store.put(waiting)
                waiting = []
    finally:
        store.put(waiting)
    meter.remember()


def write(
    answers: Sequence[TeacherAnswer], request_count: int, lock: LockedTeacher, params: GenerateParams, source_ids: Mapping[str, str]
) -> None:
    """Write completions, captured soft targets and a summary, as one directory.

    Args:
        source_ids: the user's own key of each prompt id, for rows that got no completion.
    """
    completions = [
        TeacherCompletion(
            a.request.prompt_id,
            a.request.sample_index,
            _storable(a.text),
            None if a.reasoning is None else _storable(a.reasoning),
            a.token_ids,
            a.finish_reason,
            a.request.teacher or lock.answers_from(a.request.slice),
            a.mean_logprob,
        )
        for a in answers
    ]
    with_logprobs = [a for a in answers if a.top_ids and a.token_ids and lock.tokenizer is not None]
    captured = (_captured(a, lock, params.top_k) for a in with_logprobs)
    vocabulary = 0 if lock.tokenizer is None else vocabulary_size(lock.tokenizer)
    with replacing_directory(ARTIFACTS / "completions") as folder:
        write_records(folder / "completions.parquet", TeacherCompletion, completions)
        write_soft_targets(folder / "captured", captured, lock.tokenizer_digest or "", vocabulary, CAPTURED_BITS)
        tokens = sum(len(a.token_ids) for a in answers)
        write_json(folder / "summary.json", {"prompts": len(answers), "completion_tokens": tokens})
    failed = [a for a in answers if a.finish_reason in WITHOUT_COMPLETION]
    for a in failed[:_MOST_LISTED]:
        print(f"[generate] row {source_ids.get(a.request.prompt_id, a.request.prompt_id)}: {a.finish_reason}: {a.detail}", flush=True)
    count = len(answers) - len(failed)
    without = f", {len(failed)} without a completion" if failed else ""
    print(f"[generate] {count} completions{without}, {request_count} new, {len(answers) - request_count} from the store", flush=True)


def _storable(text: str) -> str:
    """Text that Parquet can store, without the space that a plain template leaves in front. Half of a surrogate pair becomes a question mark."""
    return text.strip().encode("utf-8", "replace").decode("utf-8")


def _captured(answer: TeacherAnswer, lock: LockedTeacher, k: int) -> SoftTargets:
    request = answer.request
    prompt_ids = encode(request.prompt, lock.tokenizer)
    key = SignalKey(request.prompt_id, request.sample_index, request.teacher or lock.answers_from(request.slice))
    return from_listed(answer.top_ids, answer.top_logprobs, [*prompt_ids, *answer.token_ids], len(prompt_ids), k, key)
