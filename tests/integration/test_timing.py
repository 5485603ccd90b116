"""The stage ``timing`` on a real tiny project, and what a version of another architecture, or an endpoint, is timed against."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redistill.evaluation.timing import BATCHES, architecture, timing_from_json
from redistill.io.json import read_json
from redistill.params import load_params
from redistill.runtime.environment import child_environment
from tests.forks import ForkServer
from tests.servers import fault_teacher
from tests.tiny import make_tiny_model
from tests.tiny_project import make_tiny_project, write_params

DEEP_TEACHER = {"teacher__model": "deep", "tune_teacher__method": "off", "student__layers": {"keep": 1}}
"""Twelve layers, of which the student keeps one: told apart on whatever else this machine does."""


Run = Callable[..., str]


@pytest.fixture(scope="module")
def run(fork_server: ForkServer) -> Run:
    """Run a stage, or `redistill lock`, in the project, and return what it printed."""

    def forked(project: Path, module: str, *arguments: str, env: dict[str, str] | None = None) -> str:
        done = fork_server.run(module, *arguments, cwd=project, env={**child_environment(), "PYTHONPATH": str(project), **(env or {})})
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return forked


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """Prepared, locked and timed, with nothing trained."""
    made = make_tiny_project(tmp_path_factory.mktemp("timing"), **DEEP_TEACHER)
    make_tiny_model(made / "deep", layers=12, seed=1)
    for name in ("prepare", "tune_teacher", "init_student"):
        run(made, "tasks.running.stage_command", name)
    run(made, "redistill", "lock")
    said = run(made, "tasks.running.stage_command", "timing")
    assert "[timing] the student takes 0." in said
    return made


def test_student_teacher_and_linear_baseline_are_timed_on_the_same_requests(project: Path) -> None:
    found = timing_from_json(read_json(project / "artifacts/timing.json"))
    assert found.linear is not None
    for times in (found.student, found.teacher, found.linear):
        assert (len(times.request_s), len(times.batch_s)) == (8, BATCHES)
    assert found.student.tokens == found.teacher.tokens, "one tokenizer, one number of tokens"
    assert (
        found.student.architecture
        == architecture(project / "artifacts/base")
        != architecture(project / "deep")
        == found.teacher.architecture
    )
    for ratio in (found.request_ratio, found.batch_ratio):
        assert ratio is not None and 0 < ratio.interval.low <= ratio.value <= ratio.interval.high and ratio.value < 1


def test_a_version_of_the_same_architecture_shares_the_timing_and_another_one_is_timed_now(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.promotion.version_timing import timing_of

    monkeypatch.chdir(project)
    monkeypatch.setenv("PYTHONPATH", str(project))
    params, cycle = load_params(), timing_from_json(read_json(project / "artifacts/timing.json"))
    trained = make_tiny_model(project / "trained", layers=1, seed=9)

    def not_needed() -> Path:
        raise AssertionError("weights of the same architecture are not fetched")

    assert timing_of(architecture(trained), params, not_needed) == cycle
    deeper = make_tiny_model(project / "deeper", layers=3, seed=9)
    found = timing_of(architecture(deeper), params, lambda: deeper)
    assert found.student.architecture == architecture(deeper) and found.teacher.architecture == cycle.teacher.architecture
    assert len(found.student.request_s) == len(found.teacher.request_s) == 8 and found.linear is None
    assert timing_of(architecture(deeper), params, not_needed) == found, "remembered"


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    record = tmp_path / "asked.jsonl"
    with fault_teacher(record, "--answer", "fee", "--no-logprobs") as url:
        yield url, record


def test_an_endpoint_is_timed_over_the_network_and_asked_no_batches(project: Path, endpoint: tuple[str, Path], run: Run) -> None:
    url, record = endpoint
    write_params(project, teacher__model="served", teacher__backend="openai", tune_teacher__method="off", score__top_k=0, student__model="deep",
                 student__layers={"keep": 1}, finetune__arms={"kd": {"rows": "gold"}})  # fmt: skip
    env = {"REDISTILL_TEACHER_URL": url}
    try:
        run(project, "tasks.running.stage_command", "tune_teacher")
        run(project, "redistill", "lock", env=env)
        before = len(record.read_text(encoding="utf-8").splitlines())
        run(project, "tasks.running.stage_command", "timing", env=env)
    finally:
        write_params(project, **DEEP_TEACHER)
    asked = [line for line in record.read_text(encoding="utf-8").splitlines()[before:] if '"event": "asked"' in line]
    found = timing_from_json(read_json(project / "artifacts/timing.json"))
    assert len(asked) == 8 + 1, "each request once, and one before that is not timed"
    assert len(found.teacher.request_s) == 8 and found.teacher.batch_s == () and found.teacher.tokens is None
    assert found.batch_ratio is None and found.student_pace == found.student.pace and len(found.student.batch_s) == BATCHES
    assert found.teacher.architecture == json.loads((project / "teacher.lock.json").read_text())["current"]["digest"]
