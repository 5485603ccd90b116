"""Locks the teacher: its fingerprint, its capabilities, and the reviews of its terms."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
from pathlib import Path
from typing import Any

from redistill.data import sources
from redistill.data.forgotten import forgotten_digests
from redistill.distillation.student_base import base_of
from redistill.errors import ConfigError
from redistill.io.digests import canonical_digest
from redistill.io.json import read_json, write_json
from redistill.models import tokenizers, weights_source
from redistill.params import Params
from redistill.promotion.thresholds.params import limits_of
from redistill.teacher import fingerprint
from redistill.teacher.params import TeacherParams
from redistill.teacher.types import TeacherCapabilities, TeacherFingerprint
from tasks.locking import canary
from tasks.locking.licence_check import reviewed
from tasks.locking.locked_teacher import TEACHER
from tasks.locking.traffic_snapshots import take_snapshots
from tasks.paths import FORGOTTEN, LOCK, SOURCES


def review_licences(params: Params) -> None:
    """Stop before any file is read and before any teacher call if terms are not reviewed."""
    reviewed(params.governance, params.teacher, params.data)


def lock_sources(params: Params, *, new_date: bool = False) -> None:
    """Write the revisions and digests of what the stages will read: source files and raw models, and the date that chat templates state.

    DVC sees them through this file, since a hub data set or an installed package has no path in the project. The date stays while the teacher is the
    same, since another date is another prompt for every row; ``new_date`` makes it today's. Of traffic a new snapshot is taken.
    """
    teacher = _source_fingerprint(params.teacher)
    date = {} if params.data.format == "plain" else {"template_date": _template_date(None if new_date else teacher)}
    models = {
        "student": {"digest": weights_source.source_digest(*base_of(params.student, params.teacher)), **date},
        "teacher": {"digest": teacher, **date},
    }
    _write_if_changed(
        SOURCES,
        {
            "sources": [*sources.source_lock(params.data, Path())["sources"], *take_snapshots(params)],
            "probes": sources.file_locks(params.benchmark.files),
            "models": models,
            # Digests of prompts that a person had removed, so that no cycle takes them up again.
            "forgotten": sorted(forgotten_digests(FORGOTTEN)),
            # Resolved here, because the limit follows another section where it is left out, and DVC knows no default of a key.
            "route": dataclasses.asdict(limits_of(params.route, params.promote)),
        },
    )


def _template_date(teacher: str | None) -> str:
    """What was locked with this teacher, else today."""
    before = read_json(SOURCES).get("models", {}).get("teacher", {}) if SOURCES.is_file() else {}
    same = teacher is not None and before.get("digest") == teacher
    return str(before["template_date"]) if same and "template_date" in before else dt.date.today().isoformat()


def lock_teacher(params: Params) -> tuple[TeacherFingerprint, bool]:
    """Write ``teacher.lock.json``; the second value says whether it changed.

    Raises:
        ConfigError: terms not reviewed, or an arm needs more than this teacher can give.
        TeacherError: the endpoint cannot be reached.
    """
    licence = reviewed(params.governance, params.teacher, params.data)
    found, capabilities = _local(params.teacher) if params.teacher.backend != "openai" else _endpoint(params)
    _check_arms(params, capabilities)
    before = read_json(LOCK) if LOCK.is_file() else {}
    if params.teacher.backend != "openai":
        found = _named_as_before(found, before)
    same = before.get("current", {}).get("digest") == found.digest
    # A method that runs the teacher beside the student can use no rows of an earlier teacher.
    earlier_stay = same and not (params.teacher.backend != "openai" and weights_in_training(params))
    lock = {
        "source": {"model": params.teacher.model, "revision": params.teacher.revision, "backend": params.teacher.backend},
        "current": {"name": found.name, "digest": found.digest, "parts": found.parts},
        # Slices that an earlier teacher still answers for stay with it (``tasks.locking.reasking``).
        "answers_from": before["answers_from"] if earlier_stay else {"default": found.digest},
        # Only methods that run the teacher beside the student depend on who the present teacher is; the others, on what was scored.
        "weights_in_training": found.digest if weights_in_training(params) else "",
        "capabilities": {"logprobs": capabilities.logprobs, "max_k": capabilities.max_k, "tokenizer_digest": capabilities.tokenizer_digest},
        "licence": licence,
        **({"changes": before["changes"]} if earlier_stay and "changes" in before else {}),
    }
    return found, _write_if_changed(LOCK, lock)


def _named_as_before(found: TeacherFingerprint, before: dict[str, Any]) -> TeacherFingerprint:
    """A local teacher under the digest that it has in the lock."""
    current = before.get("current", {})
    if "parts" not in current:
        return found
    locked = TeacherFingerprint(found.name, current["digest"], current["parts"])
    named = fingerprint.as_locked(found, locked)
    if named.digest == locked.digest and fingerprint.GENERATION not in locked.parts:
        print(
            f"generation_config.json is now part of the teacher's fingerprint; the teacher keeps its name {named.digest[:12]}, so stored completions stay valid"
        )
    return named


def weights_in_training(params: Params) -> list[str]:
    """The arms whose method needs the teacher's weights in memory."""
    return [name for name, arm in params.finetune.arms.items() if "teacher_weights" in arm.learns_by(params.finetune.method).needs]


def raw_fingerprint(params: Params, max_age: dt.timedelta = dt.timedelta(minutes=10)) -> str:
    """Digest of the teacher as its owner publishes it, before tuning. The watcher compares this digest.

    An endpoint is asked its canaries, unless it was asked within ``max_age``.

    Raises:
        TeacherError: the endpoint does not answer.
    """
    if params.teacher.backend == "openai":
        return _endpoint_fingerprint(params, max_age).digest
    return _source_fingerprint(params.teacher)


def _source_fingerprint(params: TeacherParams) -> str:
    """Digest of what params name: of an endpoint only its name and address, whatever it serves there."""
    if params.backend == "openai":
        return canonical_digest(_endpoint_parts(params))
    return weights_source.source_digest(params.model, params.revision)


def _write_if_changed(path: Path, value: dict[str, Any]) -> bool:
    if path.is_file() and read_json(path) == value:
        return False
    write_json(path, value)
    return True


def _local(params: TeacherParams) -> tuple[TeacherFingerprint, TeacherCapabilities]:
    result = fingerprint.fingerprint(TEACHER, params.model)
    return result, TeacherCapabilities("score_given_ids", 0, tokenizers.tokenizer_digest_of(TEACHER))


def _endpoint(params: Params) -> tuple[TeacherFingerprint, TeacherCapabilities]:
    from redistill.teacher.openai import from_environment

    teacher = from_environment(params.teacher, chat=params.data.format == "chat")
    try:
        capabilities = teacher.probe()
    finally:
        teacher.close()
    canary.keep_prompts(params)
    return _endpoint_fingerprint(params, dt.timedelta(0)), capabilities


def _endpoint_fingerprint(params: Params, max_age: dt.timedelta) -> TeacherFingerprint:
    """Name, address, and what the canaries show. ``system_fingerprint`` is no part of it: some services change it between equal models."""
    epoch = canary.epoch(params, max_age)
    parts = {**_endpoint_parts(params.teacher), **fingerprint.prompt_part(TEACHER), "canary": epoch.id if epoch is not None else ""}
    return TeacherFingerprint(params.teacher.model, canonical_digest(parts), parts)


def _endpoint_parts(params: TeacherParams) -> dict[str, str]:
    # Other keys of a request make other completions. Without any, the parts are as they were.
    request = {"request": canonical_digest(params.request)} if params.request else {}
    return {"model": params.model, "revision": params.revision or "", "url": os.environ.get("REDISTILL_TEACHER_URL", ""), **request}


def _check_arms(params: Params, capabilities: TeacherCapabilities) -> None:
    """Raise one error, at the lock, for a method that needs more than the teacher can return."""
    eager = [name for name, arm in params.finetune.arms.items() if arm.alpha > 0]
    if not eager:
        return
    which = ", ".join(f"finetune.arms.{n}.alpha" for n in eager)
    if capabilities.logprobs == "none":
        raise ConfigError(
            f"{which} > 0 needs the teacher's probabilities, but {params.teacher.model} returns none; set alpha to 0 (text only), or use a teacher with logprobs"
        )
    if capabilities.logprobs == "at_generation":
        if params.generate.top_k > capabilities.max_k:
            raise ConfigError(
                f"generate.top_k={params.generate.top_k}, but the teacher endpoint returns at most {capabilities.max_k} logprobs per token; lower generate.top_k"
            )
        if params.generate.top_k == 0:
            raise ConfigError(
                f"{which} > 0, but this teacher returns probabilities only during generation; set generate.top_k (at most {capabilities.max_k})"
            )
    student_tokenizer = tokenizers.tokenizer_digest_of(weights_source.resolve(*base_of(params.student, params.teacher)))
    if capabilities.tokenizer_digest is None:
        raise ConfigError(
            f"{which} > 0, but {params.teacher.model} does not return token ids, so probabilities cannot be matched to the student's tokens; set alpha to 0 (text only)"
        )
    if capabilities.tokenizer_digest != student_tokenizer:
        raise ConfigError(
            f"{which} > 0, but teacher and student have different tokenizers ({capabilities.tokenizer_digest[:12]} and {student_tokenizer[:12]}): "
            "the same ids mean other tokens; use a student with the teacher's tokenizer, or set alpha to 0 (text only)"
        )
