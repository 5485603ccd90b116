"""The stage ``generate`` against a real endpoint: what leaves the house, and that it leaves once."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from redistill.data.types import Prompt
from redistill.errors import DataError
from redistill.io.json import read_json, write_json
from redistill.io.parquet import read_records
from redistill.params import load_params
from redistill.teacher.prompt_file import read_prompt
from redistill.teacher.types import TeacherCompletion
from tasks.locking import canary
from tasks.stages.generate import generate
from tasks.stages.prepare import prepare
from tasks.stages.tune_teacher import tune_teacher
from tests.servers import fault_teacher

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The record of an endpoint that answers, while it runs."""
    record = tmp_path / "sent.jsonl"
    with fault_teacher(record) as url:
        monkeypatch.setenv("REDISTILL_TEACHER_URL", url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield record


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bank example, prepared, with an endpoint for a teacher."""
    shutil.copytree(ROOT / "data" / "bank_triage", tmp_path / "data" / "bank_triage")
    monkeypatch.chdir(tmp_path)
    params = load_params(ROOT / "params.yaml")
    prepare(params.data, params.intake)
    capabilities = {"logprobs": "none", "max_k": 0, "tokenizer_digest": None}
    current, source = {"name": "m", "digest": "new", "parts": {}}, {"model": "m", "backend": "openai"}
    lock = {"source": source, "current": current, "answers_from": {"default": "new"}, "capabilities": capabilities}
    write_json(tmp_path / "teacher.lock.json", lock)
    return tmp_path


def rows_of(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (ROOT / "data" / "bank_triage" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def bodies_in(record: Path) -> list[dict[str, str]]:
    events = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    return [event["body"] for event in events if event["event"] == "asked"]


def test_no_planted_and_no_held_out_row_arrives_at_the_teacher(sent: Path, project: Path) -> None:
    params = load_params(ROOT / "params.yaml")
    generate(params.data, params.teacher, params.generate)
    bodies = bodies_in(sent)
    prompts = [body["prompt"] for body in bodies]
    texts = {prompt.removesuffix("\n=>") for prompt in prompts}
    assert all(prompt.endswith("\n=>") for prompt in prompts) and len(texts) == len(prompts), "each once, in the template"
    planted = [row for row in rows_of("unlabelled") if row.get("planted")]
    assert len(planted) == 34 and [row["id"] for row in planted if row["text"] in texts] == []
    assert not texts & {row["text"] for row in (*rows_of("heldout"), *rows_of("labelled"))}
    whole = json.dumps(bodies)
    for trace in ("AKIA", "PRIVATE KEY", "4111", "4539", "@example", "example.org", "7946 0", "WEST", "bastard", "fuck", "shit"):
        assert trace not in whole
    # Everything else does arrive: governance that stops all rows is no governance.
    plain = {row["text"] for row in rows_of("unlabelled") if not row.get("planted")}
    assert len(plain & texts) > 0.98 * len(plain)
    splits = [p for name in ("pool", "calibration") for p in read_records(project / "artifacts" / "prompts" / f"{name}.parquet", Prompt)]
    completions = read_records(project / "artifacts" / "completions" / "completions.parquet", TeacherCompletion)
    assert [(c.prompt_id, c.teacher) for c in completions] == [(p.id, "new") for p in splits]
    assert read_json(project / "artifacts" / "completions" / "summary.json")["prompts"] == len(completions)
    generate(params.data, params.teacher, params.generate)
    assert len(bodies_in(sent)) == len(completions), "a second run asks for nothing"


def test_an_endpoint_is_sent_the_teachers_own_prompt_with_every_request_and_every_canary(sent: Path, project: Path) -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    tree["data"] |= {"format": "chat", "prompt_template": "{text}"}
    tree["teacher"] |= {"backend": "openai", "prompt": {"system": "Sort the mail.", "examples": 3}}
    tree["tune_teacher"], tree["finetune"]["common"]["supervise"] = {}, "completion"
    for arm in tree["finetune"]["arms"].values():
        arm["alpha"] = 0.0
    for review in tree["governance"]["licenses"]:
        review |= {"backend": "openai"} if "backend" in review else {}
        review["terms"] = str(ROOT / review["terms"])
    (project / "params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    params = load_params()
    (project / "artifacts" / "teacher").mkdir()
    plain = canary.epoch(params)
    tune_teacher(params.data, params.teacher, params.tune_teacher)
    prompt = read_prompt(project / "artifacts" / "teacher")
    shown = [("system", "Sort the mail.")]
    shown += [turn for e in prompt.examples for turn in (("user", e.text), ("assistant", e.label))]
    lock = read_json(project / "teacher.lock.json")
    with pytest.raises(DataError, match="another prompt for the teacher than teacher.lock.json names"):
        generate(params.data, params.teacher, params.generate)
    write_json(project / "teacher.lock.json", {**lock, "current": {**lock["current"], "parts": {"prompt": prompt.digest}}})
    before = len(bodies_in(sent))
    asked = canary.epoch(params)
    assert plain is not None and asked is not None and asked.id != plain.id and asked.asked_as != plain.asked_as
    generate(params.data, params.teacher, params.generate)
    bodies = bodies_in(sent)[before:]
    read = [[(m["role"], m["content"]) for m in body["messages"]] for body in bodies]  # type: ignore[index]
    assert len(read) > 1000 and all(turns[:-1] == shown and turns[-1][0] == "user" for turns in read)
    heldout = {row["text"] for row in rows_of("heldout")}
    assert not heldout & {text for _, text in shown}
    again = canary.epoch(params, dt.timedelta(hours=1))
    assert again == asked and len(bodies_in(sent)) == before + len(bodies), "asked within the hour"
