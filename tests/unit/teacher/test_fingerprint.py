"""What a local teacher's fingerprint covers, and that a lock of before keeps the name under which its completions are stored."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from redistill.data.types import Message
from redistill.io.digests import canonical_digest
from redistill.io.json import read_json, write_json
from redistill.models.checkpoints import end_ids_of
from redistill.params import load_params
from redistill.teacher.completion_store import LOCAL, CompletionStore, request_key
from redistill.teacher.fingerprint import as_locked, fingerprint
from redistill.teacher.params import GenerateParams
from redistill.teacher.types import TeacherAnswer, TeacherFingerprint, TeacherRequest
from tasks.locking.locked_teacher import TEACHER, read_lock, require_locked_weights
from tasks.locking.teacher_lock import lock_teacher
from tasks.paths import LOCK
from tests.tiny_project import make_tiny_project


def of_before(now: TeacherFingerprint) -> TeacherFingerprint:
    """The fingerprint that earlier versions of redistill wrote: four parts."""
    parts = {name: digest for name, digest in now.parts.items() if name != "generation_config"}
    return TeacherFingerprint(now.name, canonical_digest(parts), parts)


def set_end_tokens(folder: Path, ids: list[int]) -> None:
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), "eos_token_id": ids}), encoding="utf-8")


@pytest.fixture
def folder(tiny_model_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "model"))


def test_other_end_tokens_are_another_teacher(folder: Path) -> None:
    before, ends = fingerprint(folder, "t"), end_ids_of(folder)
    set_end_tokens(folder, [*ends, 7])
    assert end_ids_of(folder) != ends
    assert fingerprint(folder, "t").digest != before.digest


def test_the_version_of_the_library_that_saved_it_is_no_part(folder: Path) -> None:
    before = fingerprint(folder, "t")
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), "transformers_version": "9.9"}), encoding="utf-8")
    assert fingerprint(folder, "t") == before


def test_a_lock_without_the_part_compares_the_others(folder: Path) -> None:
    now = fingerprint(folder, "t")
    before = of_before(now)
    assert as_locked(now, before) == replace(now, digest=before.digest), "the name stays, and the part is recorded"
    other = replace(before, parts={**before.parts, "weights": "other"})
    assert as_locked(now, other) == now
    assert as_locked(now, None) == now
    set_end_tokens(folder, [7])
    changed = fingerprint(folder, "t")
    assert as_locked(changed, replace(now, digest=before.digest)) == changed, "once it is recorded, a change is another teacher"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(make_tiny_project(tmp_path / "project"))
    shutil.copytree("teacher", TEACHER)
    return tmp_path / "project"


def test_a_project_with_a_lock_of_before_is_asked_nothing_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = load_params()
    lock_teacher(params)
    tree, old = read_json(LOCK), of_before(fingerprint(TEACHER, params.teacher.model))
    write_json(
        LOCK, {**tree, "current": {"name": old.name, "digest": old.digest, "parts": old.parts}, "answers_from": {"default": old.digest}}
    )
    assert require_locked_weights(read_lock()) == TEACHER, "also before it is locked again"
    request = TeacherRequest("p", 0, (Message("user", "hi"),), "hi\n=>", "", ("\n",))
    store = CompletionStore("store.sqlite")
    store.put([(request_key(old.digest, request, GenerateParams(), LOCAL), TeacherAnswer(request, "pin", None, (1,), "stop", -0.1))])

    capsys.readouterr()
    locked, changed = lock_teacher(params)
    lock = read_lock()
    assert changed and locked.digest == old.digest == lock.answers["default"]
    assert "generation_config" in lock.fingerprint.parts
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "generation_config.json is now part of the teacher's fingerprint" in line] == said
    answers = lock.answers["default"]
    assert store.get(request_key(answers, request, GenerateParams(), LOCAL), request) is not None, "stored completions stay valid"
    assert lock_teacher(params) == (locked, False) and not capsys.readouterr().out, "said once"

    set_end_tokens(TEACHER, [7])
    another, changed = lock_teacher(params)
    assert changed and another.digest != old.digest
