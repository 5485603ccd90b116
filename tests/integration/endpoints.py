"""Endpoints that fail on command, and teachers that ask them, for the tests of the endpoint teacher."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from redistill.data.types import Message
from redistill.errors import TeacherError
from redistill.teacher.openai import OpenAITeacher
from redistill.teacher.params import GenerateParams, TeacherParams
from redistill.teacher.types import TeacherAnswer, TeacherRequest

ROOT = Path(__file__).parents[2]
KEY = "sk-SECRET-0123456789"


@dataclass
class Endpoint:
    url: str
    record: Path

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = self.record.read_text(encoding="utf-8").splitlines() if self.record.exists() else []
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [event["body"] for event in self.events("asked")]


@pytest.fixture(scope="module")
def teachers() -> Iterator[subprocess.Popen[str]]:
    """The process in which the fault teachers of this module run."""
    command = [sys.executable, "-m", "tests.integration.fault_teacher"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        yield process
        process.terminate()


@pytest.fixture
def serve(teachers: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Endpoint]:
    """Start a fault teacher, at a port and with a record of its own."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    records = itertools.count()

    def start(*options: str, faults: list[Any] | None = None) -> Endpoint:
        record = tmp_path / f"record-{next(records)}.jsonl"
        assert teachers.stdin and teachers.stdout
        teachers.stdin.write(json.dumps(["--record", str(record), "--faults", json.dumps(faults or []), *options]) + "\n")
        port = teachers.stdout.readline().strip()
        assert port, f"the fault teacher did not start (exit code {teachers.poll()})"
        return Endpoint(f"http://127.0.0.1:{port}/v1", record)

    return start


@pytest.fixture
def teach() -> Iterator[Callable[..., OpenAITeacher]]:
    """Build a teacher; after the test it is closed, and its thread must be gone."""
    built: list[OpenAITeacher] = []

    def build(url: str, *, chat: bool = False, vllm_ids: bool = False, key: str | None = KEY, **params: Any) -> OpenAITeacher:
        settings = {"model": "any", "backend": "openai", "timeout_s": 5.0, "max_retries": 2, "max_concurrency": 4} | params
        built.append(OpenAITeacher(TeacherParams(**settings), url, key, chat=chat, vllm_ids=vllm_ids))
        return built[-1]

    yield build
    for teacher in built:
        teacher.close()
        teacher.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "redistill-teacher"]


def requests(n: int, text: str = "hello there") -> list[TeacherRequest]:
    return [TeacherRequest(f"p{i}", 0, (Message("user", text),), f"{text} {i}\n=>", "app") for i in range(n)]


def failing(teacher: OpenAITeacher, n: int = 1, **params: Any) -> tuple[list[TeacherAnswer], str]:
    """The answers that came before the error, and its text; the key must be in no form of it."""
    answers: list[TeacherAnswer] = []
    with pytest.raises(TeacherError) as caught:
        for answer in teacher.complete(requests(n), GenerateParams(**params)):
            answers.append(answer)  # extend would lose them when the error comes
    error: BaseException | None = caught.value
    while error is not None:
        assert KEY not in str(error) + repr(error) + repr(error.args)
        error = error.__cause__ or error.__context__
    return answers, str(caught.value)
