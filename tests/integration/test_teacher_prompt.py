"""A teacher that reads a system text and examples, and a student that does not: the stages themselves, one after the other, on files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from redistill.data.types import Prompt
from redistill.distillation.soft_targets.shards import SoftTargetFiles
from redistill.distillation.types import TrainingRow, sequence_digest
from redistill.errors import ConfigError, DataError
from redistill.evaluation.types import Outcome
from redistill.io.json import read_json
from redistill.io.parquet import read_records
from redistill.models.checkpoints import load_model
from redistill.models.tokenizers import load_tokenizer
from redistill.params import Params, load_params
from redistill.teacher.prompt_file import read_prompt
from redistill.teacher.types import TeacherCompletion
from tasks.locking.code_lock import lock_code
from tasks.locking.locked_teacher import read_lock
from tasks.locking.teacher_lock import lock_sources, lock_teacher
from tasks.stages.benchmark import benchmark
from tasks.stages.finetune import finetune
from tasks.stages.fitness import fitness
from tasks.stages.generate import generate
from tasks.stages.init_student import init_student
from tasks.stages.prepare import prepare
from tasks.stages.score import score
from tasks.stages.timing import timing
from tasks.stages.tune_teacher import tune_teacher
from tasks.stages.validate import validate
from tests.tiny_project import make_tiny_project, write_params

SYSTEM = "Sort the bank's mail."
CHANGES = {
    "teacher__prompt": {"system": SYSTEM, "examples": 2},
    "tune_teacher__epochs": 6,
    "generate__max_tokens": 8,
    "finetune__common__tokens": 4000,
    "finetune__common__supervise": "completion",
    "benchmark__few_shot": 3,
    "benchmark__latency_requests": 6,
}


@pytest.fixture(scope="module", params=["plain", "chat"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chat captures the probabilities with the text; plain scores the kept rows."""
    captured = {"generate__top_k": 4, "score__top_k": 0} if request.param == "chat" else {}
    return make_tiny_project(tmp_path_factory.mktemp(request.param), data__format=request.param, **CHANGES, **captured)


def locked(params: Params) -> str:
    tune_teacher(params.data, params.teacher, params.tune_teacher)
    return lock_teacher(params)[0].digest


@pytest.mark.cycles
def test_the_stages_of_a_teacher_with_its_own_prompt(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    params = load_params()
    lock_sources(params)
    lock_code()
    prepare(params.data, params.intake)
    digest = locked(params)
    lock = read_lock()
    assert lock.prompt.system == SYSTEM and len(lock.prompt.examples) == 2 and lock.fingerprint.parts["prompt"] == lock.prompt.digest
    train = {p.id for p in read_records("artifacts/prompts/train.parquet", Prompt)}
    assert {p.id for p in lock.prompt.examples} <= train, "never a row that measures"
    init_student(params.student, params.teacher)
    generate(params.data, params.teacher, params.generate)
    capsys.readouterr()
    generate(params.data, params.teacher, params.generate)
    assert " 0 new" in capsys.readouterr().out
    validate(params.data, params.intake, params.generate, params.validate)
    kept: list[TrainingRow] = read_records("artifacts/validated/kept.parquet", TrainingRow)
    tokenizer = load_tokenizer("artifacts/base")
    for row in kept:
        short, long = tokenizer.decode(row.token_ids[: row.completion_begin]), tokenizer.decode(row.teacher_prompt_ids)
        assert SYSTEM not in short and SYSTEM in long and len(long) > len(short)
        assert all(str(e.messages[-1].content) in long for e in lock.prompt.examples)
    score(params.score)
    _check_targets(kept, captured=params.score.top_k == 0)

    finetune("kd", params.data, params.finetune.method, params.finetune.common, params.finetune.arms["kd"])
    assert read_json("artifacts/students/kd.json")["with_soft_targets"] == len(SoftTargetFiles("artifacts/soft_targets/targets")) > 0
    for who in ("teacher", "prompted", "base", "kd"):
        benchmark(who, params.data, params.teacher, params.generate, params.benchmark)
    outcomes = {who: read_records(f"artifacts/benchmark/{who}/outcomes.parquet", Outcome) for who in ("teacher", "prompted", "kd")}
    assert len({tuple((o.doc_hash, o.prompt_hash) for o in rows) for rows in outcomes.values()}) == 1, (
        "one document for all that are compared"
    )
    reports = {who: read_json(f"artifacts/benchmark/{who}/report.json") for who in ("teacher", "prompted", "base", "kd")}
    assert len({r["template_digest"] for r in reports.values()}) == 1 and reports["prompted"]["who"] == "prompted"
    read = {who: r["cost"]["prompt_tokens_per_request"] for who, r in reports.items()}
    assert read["kd"] == read["base"] < read["teacher"] < read["prompted"], "two examples, and three"
    assert len({r["model_digest"] for r in reports.values()}) == 4
    _check_said(outcomes["teacher"], params)
    fitness(params.data, params.teacher, params.generate, params.benchmark)
    by_text = {o.prompt_id: o.response for o in read_records("artifacts/fitness/teacher.parquet", Outcome)}
    assert by_text
    timing(params.data, params.teacher, params.benchmark)
    assert read_json("artifacts/timing.json")["teacher"]["request_s"]
    _check_another_prompt_is_another_teacher(project, digest, capsys)


def _check_targets(kept: list[TrainingRow], *, captured: bool) -> None:
    """The stored probabilities are those of the teacher's own weights behind its own long prompt, in float64 within their coding."""
    targets, teacher = SoftTargetFiles("artifacts/soft_targets/targets"), load_model("artifacts/teacher")
    scored = [row for row in kept if row.key in targets]
    assert len(scored) == len(kept) or captured, "an engine lists nothing for a completion that was cut"
    assert scored
    for row in scored[:20]:
        soft, n = targets[row.key], len(row.completion_ids)
        assert (soft.first, soft.end, soft.sequence) == (row.completion_begin, len(row.token_ids), sequence_digest(row.token_ids))
        with torch.no_grad():
            logits = teacher(torch.tensor([[*row.teacher_prompt_ids, *row.completion_ids]])).logits[0, -n - 1 : -1].double()
        p_TK = logits.softmax(-1).gather(-1, torch.from_numpy(soft.top_ids_TK.astype(np.int64)))
        np.testing.assert_allclose(np.exp(soft.top_logprobs_TK.astype(np.float64)), p_TK, atol=0.02)


def _check_said(outcomes: list[Outcome], params: Params) -> None:
    """The benchmark asks the teacher with its prompt: greedily, it says what ``generate`` would store of the same row."""
    from redistill.teacher.requests import requests_for
    from redistill.teacher.transformers import TransformersTeacher
    from tasks.results.rows import shown_rows

    prompts = shown_rows(params.data).prompts()[:8]
    engine = TransformersTeacher(Path("artifacts/teacher"))
    greedy = [a for r in requests_for(prompts, params.data, load_tokenizer("artifacts/teacher"), 1, read_prompt(Path("artifacts/teacher")))
              for a in engine.complete([r], params.generate)]  # fmt: skip
    said = {a.request.prompt_id: a.text[:8] for a in greedy if a.finish_reason == "stop"}
    assert said and said == {o.prompt_id: o.response[:8] for o in outcomes if o.prompt_id in said}


def _check_another_prompt_is_another_teacher(project: Path, digest: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_records("artifacts/completions/completions.parquet", TeacherCompletion)
    file = project / "artifacts" / "teacher" / "teacher_prompt.json"
    whole = file.read_text(encoding="utf-8")
    file.write_text(json.dumps({**json.loads(whole), "system": "Something else."}), encoding="utf-8")
    with pytest.raises(DataError, match="has another prompt for the teacher than teacher.lock.json names; lock again"):
        read_lock()
    file.write_text(whole, encoding="utf-8")
    changes = {key: value for key, value in CHANGES.items() if key != "teacher__prompt"}
    write_params(project, **changes, data__format=load_params().data.format)
    params = load_params()
    assert locked(params) != digest and not file.exists() and "prompt" not in read_lock().fingerprint.parts
    generate(params.data, params.teacher, params.generate)
    assert f" {len(before)} new" in capsys.readouterr().out
    params = load_params()
    write_params(project, **{**changes, "benchmark__few_shot": 0}, data__format=params.data.format)
    params = load_params()
    benchmark("prompted", params.data, params.teacher, params.generate, params.benchmark)
    assert [p.name for p in Path("artifacts/benchmark/prompted").iterdir()] == ["off.json"], "the report has no arm that is turned off"
    write_params(project, **changes, teacher__prompt={"system": "word " * 600}, data__format=params.data.format)
    params = load_params()
    with pytest.raises(
        ConfigError, match=r"^teacher.prompt: with it, the shortest row of the split train has \d+ tokens, and the teacher reads 512; lower"
    ):
        tune_teacher(params.data, params.teacher, params.tune_teacher)
