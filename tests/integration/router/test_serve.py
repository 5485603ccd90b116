"""``redistill serve`` as a process, before two servers, in a project with a version that was promoted and signed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bench.router.processes import free_port
from tests.integration.conftest import Registry
from tests.tiny_project import ROOT

LIMIT_S = 180.0
KEY = "callers-key-1234"


def until(condition: Callable[[], Any], limit_s: float = LIMIT_S) -> float:
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < limit_s
        time.sleep(0.02)
    return time.monotonic() - begin


@contextmanager
def process(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    running = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5.0).status_code == 200
    return False


def promoted(registry: Registry) -> str:
    """A version that answers alone, with the template that params.yaml has, and an endpoint as the locked teacher."""
    from redistill.data.templates import template_digest
    from redistill.data.types import Message, Prompt
    from redistill.io.json import write_json
    from redistill.io.parquet import write_records
    from redistill.models.tokenizers import load_tokenizer
    from redistill.provenance import mlflow_names
    from tasks.paths import LOCK
    from tasks.promotion import approve

    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    registry.label = "card"
    version = registry.version(150, seed=21)
    prompts = [Prompt(f"{registry.params.data.name}-{n}", str(n), (Message("user", f"card {n}"),), "app", "card", "x") for n in range(8)]
    write_records(Path("artifacts/prompts/monitor.parquet"), Prompt, prompts)
    tag = template_digest(registry.params.data, load_tokenizer("artifacts/students/kd"))
    registry.client.set_model_version_tag(registry.params.data.name, version, mlflow_names.TAG_TEMPLATE, tag)
    approve.promote(registry.params, version, "passed")
    capabilities = {"logprobs": "none", "max_k": 0, "tokenizer_digest": None}
    current = {"name": "t", "digest": "teacher", "parts": {}}
    write_json(
        LOCK, {"source": {"backend": "openai"}, "current": current, "answers_from": {"default": "teacher"}, "capabilities": capabilities}
    )
    return version


def without_torch(folder: Path) -> str:
    """The path of Python for an installation such as the small image's, which has only the extra `serve`."""
    (folder / "sitecustomize.py").write_text("import sys; sys.modules.update(torch=None, vllm=None, peft=None)", encoding="utf-8")
    return f"{folder}{os.pathsep}{ROOT}"


def test_a_promoted_version_answers_until_the_flag_or_its_signature_says_otherwise(
    make_registry: Callable[..., Registry], tmp_path: Path
) -> None:
    registry = make_registry(gates=["audit", "teacher"])
    version, name = promoted(registry), registry.params.data.name
    student, teacher, port = free_port(), free_port(), free_port()
    addresses = {
        "REDISTILL_STUDENT_URL": f"http://127.0.0.1:{student}/v1",
        "REDISTILL_TEACHER_URL": f"http://127.0.0.1:{teacher}/v1",
        "REDISTILL_SERVE_API_KEY": KEY,
        "REDISTILL_TEACHER_API_KEY": "teachers-key",
    }
    url, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {KEY}"}

    def ask() -> httpx.Response:
        body = {"messages": [{"role": "user", "content": "my card is lost"}]}
        return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=10.0)

    def route() -> str:
        return str(ask().headers["X-Redistill-Route"])

    with (
        process("-m", "tests.fault_models", str(student), f"{name}@{version}"),
        process("-m", "tests.fault_models", str(teacher), "t"),
        process("-m", "redistill", "serve", "--port", str(port), PYTHONPATH=without_torch(tmp_path), **addresses) as router,
    ):
        until(lambda: router.poll() is not None or answers(f"{url}/healthz"))
        assert router.poll() is None, router.communicate()[1]
        assert httpx.post(f"{url}/v1/chat/completions", json={}).status_code == 401
        until(lambda: route() == "student")
        assert (ask().headers["X-Redistill-Model-Version"], ask().json()["model"]) == (version, f"{name}@{version}")
        with process("-m", "redistill", "route", "set", "teacher", "--reason", "trial") as pin:
            assert pin.wait(LIMIT_S) == 0
        until(lambda: route() == "teacher")
        with process("-m", "redistill", "route", "set", "auto", "--reason", "trial") as unpin:
            assert unpin.wait(LIMIT_S) == 0
        until(lambda: route() == "student")
        router.send_signal(signal.SIGTERM)
        assert router.wait(20.0) in (0, 143)
        assert router.stderr is not None
        said = router.stderr.read()
        assert f"version {version} is verified and may answer" in said and KEY not in said and "teachers-key" not in said
    lines = [json.loads(line) for line in Path(".redistill/serving/decisions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["route"] for line in lines} == {"student", "teacher"} and all("card" not in json.dumps(line) for line in lines)


@pytest.mark.parametrize(
    ("environment", "host", "message"),
    [
        ({}, "127.0.0.1", "the address of the student's server is not known; run `redistill up-models`"),
        ({"REDISTILL_STUDENT_URL": "http://u:p@h/v1"}, "127.0.0.1", "without password or query"),
        ({"REDISTILL_STUDENT_URL": "http://h/v1", "REDISTILL_TEACHER_URL": "http://h/v1"}, "0.0.0.0", "callers need a key"),
        ({"REDISTILL_STUDENT_URL": "http://h/v1", "REDISTILL_STUDENT_API_KEY": "a b"}, "127.0.0.1", "which an HTTP header cannot contain"),
    ],
)
def test_a_router_that_cannot_be_safe_does_not_start(
    make_registry: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], host: str, message: str
) -> None:
    from redistill.errors import ConfigError
    from tasks.serving.router import Address, serve

    registry = make_registry(gates=["audit", "teacher"])
    promoted(registry)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        serve(registry.params, Address(host, free_port()), print)


def test_a_version_with_other_weights_than_the_signed_ones_is_not_verified(make_registry: Callable[..., Registry]) -> None:
    from redistill.errors import RegistryError
    from redistill.provenance import mlflow_names
    from tasks.serving.models import Students

    registry = make_registry(gates=["audit", "teacher"])
    version = promoted(registry)
    students = Students(registry.params)
    served = students.verified(version)
    assert served.name == f"{registry.params.data.name}@{version}" and students.shown(version).model == served.name
    client, model = registry.client, registry.params.data.name
    client.set_model_version_tag(model, version, mlflow_names.TAG_TEMPLATE, "another")
    with pytest.raises(RegistryError, match="trained with another template"):
        students.verified(version)
    client.set_model_version_tag(model, version, mlflow_names.TAG_MODEL_DIGEST, "0" * 64)
    with pytest.raises(RegistryError, match="do not have the registered digest"):
        students.verified(version)
