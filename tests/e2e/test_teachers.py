"""Cycles with other teachers: an endpoint without log-probabilities, and vLLM for real on the pretrained teacher."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redistill.runtime.environment import child_environment
from tests.cycles import LO_UP, LOOPBACK_ONLY, Command, with_registry
from tests.servers import fault_teacher
from tests.tiny_project import ROOT, make_tiny_project

pytestmark = pytest.mark.cycles

ENDPOINT = {
    "teacher__model": "served",
    "teacher__backend": "openai",
    "tune_teacher__method": "off",
    "score__top_k": 0,
    "student__model": "teacher-weights",
    "finetune__arms": {"gold": {"rows": "gold"}, "kd": {"rows": "gold_and_teacher"}},
    "finetune__common__tokens": 4000,
}


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A real HTTP endpoint that answers without log-probabilities and records what it was asked."""
    record = tmp_path / "asked.jsonl"
    with fault_teacher(record, "--faults", '["500", "429"]', "--answer", "fee", "--no-logprobs") as url:
        yield url, record


def test_endpoint_without_logprobs(tmp_path: Path, redistill: Command, empty_registry: Path, endpoint: tuple[str, Path]) -> None:
    url, record = endpoint
    project = with_registry(make_tiny_project(tmp_path / "project", **ENDPOINT), empty_registry)
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
    canaries = len(json.loads((project / ".redistill/canary.json").read_text(encoding="utf-8"))["prompts"])
    assert canaries <= len(probes) <= canaries + 8, "only the canaries and the lock's probe speak to an unchanged teacher"


def test_alpha_needs_logprobs(tmp_path: Path, redistill: Command, empty_registry: Path, endpoint: tuple[str, Path]) -> None:
    arms = {"gold": {"rows": "gold"}, "sft": {"rows": "gold_and_teacher"}, "kd": {"rows": "gold_and_teacher", "alpha": 0.5}}
    project = make_tiny_project(tmp_path / "project", **{**ENDPOINT, "finetune__arms": arms, "generate__top_k": 5})
    with_registry(project, empty_registry)
    (project / "teacher").rename(project / "teacher-weights")
    done = redistill(project, "run", env={"REDISTILL_TEACHER_URL": endpoint[0]})
    assert done.code == 2
    assert "error: finetune.arms.kd.alpha > 0 needs the teacher's probabilities, but served returns none" in done.stderr


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the real engine says, with nothing to phone home to (``tests.ask_vllm``)."""
    command = [*LOOPBACK_ONLY, sys.executable, "-m", "tests.ask_vllm", str(tmp_path_factory.mktemp("vllm"))]
    env = {**child_environment(), "LO_UP": LO_UP}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=env, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_vllm_on_the_pretrained_teacher(vllm: dict[str, Any]) -> None:
    """A handful of rows: greedy text, ids that end, top-k that sums to at most one."""
    said = vllm["pretrained"]
    assert said["lengths"][:3] == ["length", 4, "too long"] and said["lengths"][3].endswith("but the model reads 8192")
    whole, line, piece, across = said["stopped"]
    assert said["unfinished"] == 0, "a caller that stops in the middle leaves nothing in the engine"
    assert whole[0].startswith("four\n5. five\n6. s") and whole[1] == "length"
    assert line == ["four", "stop", " four"] and piece == ["four", "stop", " four"], (
        "the engine ends there, and the line break is no part of it"
    )
    assert across[:2] == ["four\n5. fiv", "stop"] and across[2].strip() in ("", "four\n5. fiv")
    assert len(said["answers"]) == 3 and "Paris" in said["answers"][0]["text"]
    for answer in said["answers"]:
        assert 0 < answer["n"] <= 8
        assert answer["mean"] < 0
        assert 0 <= answer["tail"] < 1
        assert answer["k"] == 5


def test_vllm_ends_at_every_end_token_and_inherits_no_setting(vllm: dict[str, Any]) -> None:
    """The same weights without and with a generation_config as checkpoints ship it: the same tokens, up to the end that the file adds."""
    said = vllm["settings"]
    cut = 0
    for (free, *_), (ours, reason, _, listed) in zip(said["free"], said["ours"], strict=True):
        place = next((i for i, token in enumerate(free) if token in said["ends"]), len(free))
        assert ours == free[: place + 1] and listed == len(ours)
        assert reason == ("stop" if ours[-1] in said["ends"] else "length")
        cut += len(ours) < len(free)
    assert cut


def test_vllm_holds_random_weights_to_a_form_and_reports_logprobs_as_we_do(vllm: dict[str, Any]) -> None:
    """vLLM leaves tokens out before it takes logprobs; transformers gets the same ones here, so that confidence means the same in both."""
    ours, theirs = vllm["held"]["texts"]
    assert len(vllm["held"]["lines"]) == 4 and set(vllm["held"]["lines"]) <= {"fee", "pin"}
    assert ours == theirs and all(json.loads(text)["topic"] in ("card", "fee") for text in ours)
    # bfloat16 in one and in the other.
    assert vllm["held"]["distance"] < 0.05
