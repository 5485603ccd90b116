"""Asking a teacher through the store: each request once, in order, and kept whatever happens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from redistill.data.params import DataParams, SourceParams
from redistill.data.types import Message, Prompt
from redistill.distillation.training.rows import RowMaker
from redistill.errors import TeacherError
from redistill.io.parquet import read_records
from redistill.teacher.completion_store import CompletionStore
from redistill.teacher.params import GenerateParams, TeacherParams
from redistill.teacher.types import TeacherAnswer, TeacherCapabilities, TeacherCompletion, TeacherFingerprint, TeacherRequest
from tasks.locking.locked_teacher import LockedTeacher
from tasks.stages.generate import ask, write
from tests.unit.teacher.recording_teacher import RecordingTeacher

TEACHER = TeacherParams(model="m", backend="openai")
DATA = DataParams(name="tiny", source=(SourceParams(path="rows.jsonl", splits={"pool": 1.0}),), task="generation")
LOCK = LockedTeacher(
    TeacherFingerprint("m", "new", {}), {"default": "new"}, TeacherCapabilities("none", 0, None), "openai", path=None, tokenizer=None
)


def request(number: int, sample: int = 0, slice: str = "app") -> TeacherRequest:
    # Lengths differ, so that the order of asking (longest first) is not the order of the requests.
    text = f"row {number} " + "." * (number * 7 % 5)
    return TeacherRequest(f"p{number}", sample, (Message("user", text),), f"{text}\n=>", slice)


class Desk:
    """One store and, each time, a new teacher; who is opened is kept."""

    def __init__(self, path: Path) -> None:
        self.store = CompletionStore(path / "store.sqlite")
        self.opened: list[RecordingTeacher] = []

    def ask(
        self, teacher: RecordingTeacher, requests: list[TeacherRequest], params: GenerateParams | None = None, lock: LockedTeacher = LOCK
    ) -> tuple[list[TeacherAnswer], int]:
        def opened(*_: object) -> RecordingTeacher:
            self.opened.append(teacher)
            return teacher

        return ask(requests, lock, TEACHER, DATA, params or GenerateParams(), self.store, opened)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def texts(answers: list[TeacherAnswer]) -> list[str]:
    return [a.text for a in answers]


def test_answers_stand_in_the_order_of_the_requests(desk: Desk) -> None:
    teacher, requests = RecordingTeacher(), [request(n, s) for n in (4, 1, 3, 0, 2) for s in (1, 0)]
    answers, asked = desk.ask(teacher, requests, GenerateParams(samples=2))
    assert [a.request for a in answers] == requests and asked == 10
    assert texts(answers) == [f"said of {r.prompt}" for r in requests]
    assert [len(b) for b in teacher.batches] == [10] and teacher.closed == 1, (
        "at once: an engine that waits for the end of each batch stands still"
    )


def test_only_what_is_missing_is_asked_and_a_full_store_opens_no_teacher(desk: Desk) -> None:
    first, second = RecordingTeacher(lambda _: "first"), RecordingTeacher(lambda _: "second")
    desk.ask(first, [request(n) for n in range(5)])
    answers, asked = desk.ask(second, [request(n) for n in range(8)])
    assert {r.prompt_id for r in second.asked} == {"p5", "p6", "p7"} and asked == 3
    assert texts(answers) == ["first"] * 5 + ["second"] * 3
    again, asked = desk.ask(RecordingTeacher(), [request(n) for n in range(8)])
    assert again == answers and asked == 0 and desk.opened == [first, second]
    assert desk.ask(RecordingTeacher(), []) == ([], 0)


def test_duplicates_are_asked_once_and_answered_each(desk: Desk) -> None:
    teacher, requests = RecordingTeacher(), [request(1), request(2), request(1), request(1)]
    answers, asked = desk.ask(teacher, requests)
    assert sorted(r.prompt_id for r in teacher.asked) == ["p1", "p2"] and asked == 2 and len(desk.store) == 2
    assert [a.request for a in answers] == requests


@pytest.mark.parametrize("error", [TeacherError("the endpoint went away"), RuntimeError("a bug"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("came", [0, 1, 16, 17, 39])
def test_an_exception_in_the_middle_keeps_what_came(desk: Desk, error: BaseException, came: int) -> None:
    requests = [request(n) for n in range(40)]
    broken, whole = RecordingTeacher(fails_after=came, error=error), RecordingTeacher()
    with pytest.raises(type(error)):
        desk.ask(broken, requests, GenerateParams())
    assert broken.closed == 1 and len(desk.store) == came
    answers, asked = desk.ask(whole, requests, GenerateParams())
    assert asked == len(whole.asked) == 40 - came and [a.request for a in answers] == requests


def test_a_teacher_that_leaves_prompts_out_is_not_believed_to_be_done(desk: Desk) -> None:
    requests = [request(n) for n in range(6)]
    with pytest.raises(TeacherError, match="returned no completion for 2 of 6 prompts; all completions so far are stored; run again"):
        desk.ask(RecordingTeacher(mute=frozenset({"p1", "p4"})), requests)
    whole = RecordingTeacher()
    desk.ask(whole, requests)
    assert {r.prompt_id for r in whole.asked} == {"p1", "p4"}


def test_other_sampling_or_another_teacher_is_asked_anew_and_a_slice_keeps_its_answers(desk: Desk) -> None:
    requests = [request(0, slice="app"), request(1, slice="phone")]
    desk.ask(RecordingTeacher(lambda _: "old"), requests, lock=replace(LOCK, answers={"default": "old"}))
    answers, asked = desk.ask(RecordingTeacher(lambda _: "new"), requests, lock=replace(LOCK, answers={"default": "new", "app": "old"}))
    assert (texts(answers), asked) == (["old", "new"], 1)
    _, asked = desk.ask(RecordingTeacher(), requests, GenerateParams(temperature=0.5))
    assert asked == 2


def test_a_prompt_without_a_completion_is_named_and_asked_again(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    requests = [request(n) for n in range(3)]
    answers, asked = desk.ask(RecordingTeacher(fails_on={"p1": ("refused", "status 400: 'filtered'")}), requests)
    write(answers, asked, LOCK, GenerateParams(), {"p1": "mail-17"})
    assert (
        "[generate] row mail-17: refused: status 400: 'filtered'\n[generate] 2 completions, 1 without a completion, 3 new"
        in capsys.readouterr().out
    )
    completions = read_records(tmp_path / "artifacts" / "completions" / "completions.parquet", TeacherCompletion)
    assert [c.finish_reason for c in completions] == ["stop", "refused", "stop"]
    later = RecordingTeacher()
    desk.ask(later, requests)
    assert [r.prompt_id for r in later.asked] == ["p1"], "not stored"


def test_an_empty_completion_of_an_endpoint_counts_as_missing_and_one_of_weights_does_not(desk: Desk) -> None:
    requests = [request(n) for n in range(3)]
    desk.ask(RecordingTeacher(lambda r: " " if r.prompt_id == "p1" else "fee"), requests)
    again = RecordingTeacher(lambda r: "")
    desk.ask(again, requests)
    assert [r.prompt_id for r in again.asked] == ["p1"]
    weights = replace(LOCK, backend="transformers")
    desk.ask(RecordingTeacher(lambda _: ""), requests, lock=weights)
    never = RecordingTeacher()
    desk.ask(never, requests, lock=weights)
    assert never.asked == []


class Letters:
    """A tokenizer of single characters."""

    eos_token_id = 0

    def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(c) for c in text] for text in texts]}

    def get_vocab(self) -> dict[str, int]:
        return {chr(i): i for i in range(128)}


def test_a_completion_is_spelled_as_a_gold_label_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint completes ``=>`` with the blank that we add ourselves; a student must see one blank, not two."""
    monkeypatch.chdir(tmp_path)
    prompts = [Prompt.of((Message("user", f"row {n}"),), f"r{n}", "app", "fee", "rows.jsonl") for n in range(3)]
    answers = [TeacherAnswer(request(n), text, None, (), "stop", None) for n, text in enumerate(("fee", " fee", " fee "))]
    write(answers, 3, LOCK, GenerateParams(), {})
    completions = read_records(tmp_path / "artifacts" / "completions" / "completions.parquet", TeacherCompletion)
    maker = RowMaker(DATA, Letters())
    rows = maker.completed(list(zip(prompts, completions, strict=True)), teacher_tokenizer=None)
    assert [(r.token_ids, r.spans) for r in rows] == [(r.token_ids, r.spans) for r in maker.gold(prompts)]
