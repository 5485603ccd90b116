"""A chat teacher as they are published: its template states the date, its turns end with another token than the tokenizer's, its settings hold a penalty.

The stages themselves, one after the other, on files.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redistill.distillation.types import TrainingRow
from redistill.evaluation.types import Outcome
from redistill.io.json import read_json
from redistill.io.parquet import read_records
from redistill.models.checkpoints import end_ids_of
from redistill.models.tokenizers import load_tokenizer
from redistill.params import load_params
from redistill.teacher.types import TeacherCompletion
from tasks.locking.code_lock import lock_code
from tasks.locking.teacher_lock import lock_sources, lock_teacher
from tasks.stages.benchmark import benchmark
from tasks.stages.finetune import finetune
from tasks.stages.generate import generate
from tasks.stages.init_student import init_student
from tasks.stages.prepare import prepare
from tasks.stages.score import score
from tasks.stages.tune_teacher import tune_teacher
from tasks.stages.validate import validate
from tests.tiny import CHATML
from tests.tiny_project import make_tiny_project

DATED = "<|im_start|>system\nToday: {{ strftime_now('%d %b %Y') }}<|im_end|>\n" + CHATML
DATE, TURN_END = "2026-01-05", "<unk>"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chat")
    make_tiny_project(
        path,
        data__format="chat",
        tune_teacher__epochs=12,
        # Probabilities that come with the text are bound to its very ids: the case in which a second end stopped a cycle.
        generate__top_k=4,
        score__top_k=0,
        generate__max_tokens=8,
        finetune__common__tokens=6000,
        benchmark__latency_requests=6,
        benchmark__fairness=None,
    )
    tokenizer = load_tokenizer(path / "teacher")
    tokenizer.chat_template = DATED
    tokenizer.save_pretrained(path / "teacher")
    file = path / "teacher" / "generation_config.json"
    tree = json.loads(file.read_text(encoding="utf-8"))
    ends = [tokenizer.convert_tokens_to_ids(TURN_END), tree["eos_token_id"]]
    file.write_text(json.dumps({**tree, "eos_token_id": ends, "repetition_penalty": 1.3}), encoding="utf-8")
    return path


@pytest.mark.cycles
def test_the_stages_of_a_chat_teacher(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(project)
    params = load_params()
    lock_sources(params)
    lock_code()
    tree = read_json("sources.lock.json")
    for model in tree["models"].values():
        model["template_date"] = DATE  # as a lock of that day has it
    Path("sources.lock.json").write_text(json.dumps(tree), encoding="utf-8")
    prepare(params.data, params.intake)
    tune_teacher(params.data, params.teacher, params.tune_teacher)
    lock_teacher(params)
    init_student(params.student, params.teacher)
    generate(params.data, params.teacher, params.generate)
    capsys.readouterr()
    # Another day: the lock is written again, and nothing is asked again.
    lock_sources(params)
    assert read_json("sources.lock.json") == tree
    generate(params.data, params.teacher, params.generate)
    assert " 0 new" in capsys.readouterr().out
    completions = read_records("artifacts/completions/completions.parquet", TeacherCompletion)
    stopped = [c for c in completions if c.finish_reason == "stop"]
    ends = end_ids_of("artifacts/teacher")
    assert len(stopped) > 0.5 * len(completions) and {c.token_ids[-1] for c in stopped} <= set(ends) and len(ends) == 2
    validate(params.data, params.intake, params.generate, params.validate)
    kept = read_records("artifacts/validated/kept.parquet", TrainingRow)
    tokenizer = load_tokenizer("artifacts/base")
    assert kept and all("Today: 05 Jan 2026" in tokenizer.decode(row.token_ids[: row.completion_begin]) for row in kept)
    assert all(sum(i in ends for i in row.completion_ids) == 1 and row.completion_ids[-1] in ends for row in kept)
    score(params.score)
    arm = params.finetune.arms["kd"]
    finetune("kd", params.data, params.finetune.method, params.finetune.common, arm)
    settings = read_json("artifacts/students/kd/generation_config.json")
    assert set(settings["eos_token_id"]) == set(ends) and "repetition_penalty" not in settings
    for who in ("teacher", "kd"):
        benchmark(who, params.data, params.teacher, params.generate, params.benchmark)
    teacher, student = (read_records(f"artifacts/benchmark/{who}/outcomes.parquet", Outcome) for who in ("teacher", "kd"))
    assert [(o.doc_hash, o.prompt_hash) for o in teacher] == [(o.doc_hash, o.prompt_hash) for o in student], (
        "asked the same rows on every day"
    )
    assert len({read_json(f"artifacts/benchmark/{who}/report.json")["template_digest"] for who in ("teacher", "kd")}) == 1
