"""A chat template that states the date states one date, in every checkpoint, until the teacher changes or a person asks."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from redistill.data.templates import render, template_digest
from redistill.data.types import Message, Prompt
from redistill.errors import ConfigError
from redistill.models.template_date import fix_date, states_the_date, with_date
from redistill.models.tokenizers import load_tokenizer
from redistill.params import load_params
from redistill.teacher.fingerprint import fingerprint
from tasks.locking.locked_teacher import template_date
from tasks.locking.teacher_lock import lock_sources
from tasks.stages.init_student import init_student
from tasks.stages.tune_teacher import tune_teacher
from tests.tiny import CHATML, make_tiny_model
from tests.tiny_project import make_tiny_project

LLAMA = (
    '{%- if not date_string is defined %}{%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}'
    '{%- set date_string = "26 Jul 2024" %}{%- endif %}{%- endif %}<|im_start|>system\nToday Date: {{ date_string }}<|im_end|>\n' + CHATML
)
GRANITE = "Today's Date: {{ strftime_now('%B %d, %Y') }}.\n" + CHATML
DATE = dt.date(2026, 1, 5)
PROMPT = Prompt.of((Message("user", "my card is gone"),), "1", "", None, "test")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_tiny_project(tmp_path, data__format="chat", tune_teacher__method="off", student__init="copy")
    set_template(tmp_path / "teacher", LLAMA)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_template(folder: Path, template: str) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def locked() -> dict[str, dict[str, str]]:
    tree: dict[str, dict[str, str]] = json.loads(Path("sources.lock.json").read_text(encoding="utf-8"))["models"]
    return tree


def lock_as_if_on(day: dt.date) -> None:
    """Today's lock with another day's date in it: what a lock that was written on that day holds."""
    lock_sources(load_params())
    tree = json.loads(Path("sources.lock.json").read_text(encoding="utf-8"))
    for model in tree["models"].values():
        assert model["template_date"] == dt.date.today().isoformat()
        model["template_date"] = day.isoformat()
    Path("sources.lock.json").write_text(json.dumps(tree), encoding="utf-8")


def make_checkpoints() -> None:
    params = load_params()
    tune_teacher(params.data, params.teacher, params.tune_teacher)
    init_student(params.student, params.teacher)


def test_a_lock_of_another_day_keeps_its_date_and_every_checkpoint_states_it(project: Path) -> None:
    lock_as_if_on(DATE)
    lock_sources(load_params())
    assert {m["template_date"] for m in locked().values()} == {"2026-01-05"}, "a new day alone moves nothing"
    make_checkpoints()
    data, digests = load_params().data, set()
    for name in ("teacher", "base"):
        tokenizer = load_tokenizer(project / "artifacts" / name)
        text = render(PROMPT, data, tokenizer)
        assert "Today Date: 05 Jan 2026" in text and dt.date.today().strftime("%d %b %Y") not in text
        assert text.endswith("my card is gone\n=><|im_end|>\n<|im_start|>assistant\n")
        digests.add(template_digest(data, tokenizer))
    assert len(digests) == 1, "student and teacher are asked the same"
    assert dt.date.today().strftime("%d %b %Y") in render(PROMPT, data, load_tokenizer(project / "teacher")), (
        "the owner's own template is as it was"
    )


def test_a_changed_teacher_or_a_person_moves_the_date_and_with_it_the_digests(project: Path) -> None:
    lock_as_if_on(DATE)
    make_checkpoints()
    before = fingerprint(project / "artifacts" / "teacher", "t").parts
    lock_sources(load_params(), new_date=True)
    assert {m["template_date"] for m in locked().values()} == {dt.date.today().isoformat()}
    make_checkpoints()
    after = fingerprint(project / "artifacts" / "teacher", "t").parts
    assert {k for k in before if before[k] != after[k]} == {"chat_template"}
    lock_as_if_on(DATE)
    set_template(project / "teacher", GRANITE)
    lock_sources(load_params())
    assert {m["template_date"] for m in locked().values()} == {dt.date.today().isoformat()}, "another template, another date"


def test_plain_prompts_lock_no_date(project: Path) -> None:
    make_tiny_project(project, tune_teacher__method="off")
    lock_sources(load_params())
    assert template_date("teacher") is None and all(set(m) == {"digest"} for m in locked().values())


@pytest.mark.parametrize("template", [LLAMA, GRANITE, GRANITE.replace("strftime_now('", "strftime_now(format = '")])
def test_the_fixed_template_says_what_the_free_one_says_on_that_day(tiny_model_dir: Path, template: str) -> None:
    tokenizer = load_tokenizer(tiny_model_dir)
    messages = [{"role": "user", "content": "hi"}]

    def said(text: str, **more: object) -> str:
        return str(tokenizer.apply_chat_template(messages, chat_template=text, tokenize=False, add_generation_prompt=True, **more))

    fixed = with_date(template, DATE)
    # A variable of the call hides transformers' own function: today as it was on that day.
    free = said(template.replace("format = ", ""), strftime_now=lambda f: DATE.strftime(f))
    assert said(fixed) == free and states_the_date(template) and not states_the_date(fixed)
    assert with_date(fixed, dt.date(2030, 1, 1)) == fixed, "a fixed date stays, also in a student that becomes a teacher"
    assert with_date(CHATML, DATE) == CHATML


def test_several_templates_by_name_are_fixed_together(tiny_model_dir: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model_dir)
    tokenizer.chat_template = {"default": GRANITE, "tool_use": LLAMA, "rag": CHATML}
    assert fix_date(tokenizer, DATE) and not fix_date(tokenizer, DATE)
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert "January 05, 2026" in again.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert again.chat_template["rag"] == CHATML


def test_a_format_that_is_worked_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"computes its date format.*data\.format: plain") as caught:
        with_date("{% set f = '%Y' %}{{ strftime_now(f) }}" + CHATML, DATE)
    assert "\n" not in str(caught.value)
    make_tiny_model(tmp_path)
    assert not fix_date(load_tokenizer(tmp_path), None)
