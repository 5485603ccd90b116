"""How long a way back takes through a real router, with real versions that are verified: to the teacher, and to the previous version.

``python -m pytest -s tests/integration/router/test_rollback_times.py`` prints the seconds that docs/serving.md has.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bench.router.processes import free_port
from tests.integration.conftest import Registry
from tests.integration.router.test_serve import answers, process, promoted, until
from tests.tiny_project import ROOT


def second(registry: Registry) -> str:
    """Another version with the template of params.yaml."""
    from redistill.data.templates import template_digest
    from redistill.models.tokenizers import load_tokenizer
    from redistill.provenance import mlflow_names

    version = registry.version(160, seed=22)
    tag = template_digest(registry.params.data, load_tokenizer("artifacts/students/kd"))
    registry.client.set_model_version_tag(registry.params.data.name, version, mlflow_names.TAG_TEMPLATE, tag)
    return version


@pytest.mark.cycles
def test_the_way_back_to_the_teacher_and_to_the_previous_version(
    make_registry: Callable[..., Registry], capsys: pytest.CaptureFixture[str]
) -> None:
    from redistill.io.json import read_json, write_json
    from redistill.serving.route_flag import update_route, with_pin
    from tasks.paths import LOCK
    from tasks.promotion import approve
    from tasks.registry.transitions import FLAGS

    registry = make_registry(gates=["audit", "teacher"])
    first, lock = promoted(registry), read_json(LOCK)
    later, name = second(registry), registry.params.data.name
    approve.promote(registry.params, later, "passed")
    write_json(LOCK, lock)
    student, following, teacher, port = free_port(), free_port(), free_port(), free_port()
    addresses = {
        "REDISTILL_STUDENT_URL": f"http://127.0.0.1:{student}/v1",
        "REDISTILL_NEXT_URL": f"http://127.0.0.1:{following}/v1",
        "REDISTILL_TEACHER_URL": f"http://127.0.0.1:{teacher}/v1",
    }

    def version() -> str:
        body = {"messages": [{"role": "user", "content": "my card is lost"}]}
        response = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, timeout=10.0)
        return response.headers["X-Redistill-Model-Version"] if response.headers["X-Redistill-Route"] == "student" else "teacher"

    def seconds(change: Callable[[], Any], expected: str) -> float:
        begin = time.monotonic()
        change()
        until(lambda: version() == expected, 300.0)
        return time.monotonic() - begin

    def rolled_back(*to: str) -> None:
        command = [sys.executable, "-m", "redistill", "rollback", *to, "--reason", "trial"]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=300.0, check=True)

    with (
        process("-m", "tests.fault_models", str(student), f"{name}@{first}"),
        process("-m", "tests.fault_models", str(following), f"{name}@{later}"),
        process("-m", "tests.fault_models", str(teacher), "t"),
        process("-m", "redistill", "serve", "--port", str(port), **addresses) as router,
    ):
        until(lambda: router.poll() is not None or answers(f"http://127.0.0.1:{port}/healthz"), 300.0)
        assert router.poll() is None, router.communicate()[1]
        until(
            lambda: version() == later or httpx.get(f"http://127.0.0.1:{port}/readyz").json()["unverified"] not in ("", "not checked yet"),
            300.0,
        )
        assert version() == later, httpx.get(f"http://127.0.0.1:{port}/readyz").text
        to_teacher = [seconds(lambda: update_route(FLAGS, lambda now: with_pin(now, "teacher", "x")), "teacher")]
        seconds(lambda: update_route(FLAGS, lambda now: with_pin(now, "auto", "x")), later)
        to_teacher.append(seconds(lambda: update_route(FLAGS, lambda now: with_pin(now, "teacher", "x")), "teacher"))
        seconds(lambda: update_route(FLAGS, lambda now: with_pin(now, "auto", "x")), later)
        unseen = seconds(rolled_back, first)
        seen = seconds(lambda: rolled_back("--to", later), later)
    with capsys.disabled():
        print(
            f"\nflag to the teacher's first response: {to_teacher[0]:.2f} and {to_teacher[1]:.2f} s; `redistill rollback` to the previous version's first response: "
            f"{unseen:.1f} s where the router has never verified it, {seen:.1f} s where it has; both servers run"
        )


def test_a_stopped_rollout_makes_the_version_before_the_champion_again(make_registry: Callable[..., Registry]) -> None:
    from redistill.serving.route_flag import read_route
    from tasks.promotion import approve
    from tasks.registry import alarms, transitions
    from tasks.serving import fall_back, rollout

    registry = make_registry(gates=["audit", "teacher"])
    first = promoted(registry)
    params = replace(registry.params, serve=replace(registry.params.serve, rollout_steps=(5.0, 50.0, 100.0)))
    later = second(registry)
    approve.promote(params, later, "passed")
    route = read_route(transitions.FLAGS)
    assert route.model_version == later and route.rollout is not None
    assert (route.rollout.version, route.rollout.share) == (first, 0.05)
    rollout.advance(route.rollout, 0.5, "rollout: 50%")
    moved = read_route(transitions.FLAGS)
    assert moved.rollout is not None and moved.rollout.share == 0.5
    rollout.advance(route.rollout, 1.0, "a router that saw an older flag")
    assert read_route(transitions.FLAGS) == moved
    assert not rollout.stop(params, "about other versions", replace(moved, model_version="99"))
    # The guard's alarm, during a rollout.
    fall_back.fall_back(params, "the guard: too much disagreement", moved)
    now = transitions.live(registry.client, params)
    assert (now.champion, now.previous, now.route.model_version, now.route.rollout, now.route.mode) == (
        first,
        later,
        first,
        None,
        "student",
    )
    last = transitions.history(registry.client, params)[-1]
    assert (last.kind, last.champion) == ("rollback", first) and "too much disagreement" in last.reason
    assert alarms.ALARM.is_file() and not list(alarms.UNRECORDED.glob("*"))
    assert not rollout.stop(params, "again", moved), "once"


def test_a_version_that_does_not_verify_leaves_no_download_behind(make_registry: Callable[..., Registry]) -> None:
    from redistill.errors import RegistryError
    from redistill.provenance import mlflow_names
    from tasks.serving.models import Students

    registry = make_registry(gates=["audit", "teacher"])
    version = promoted(registry)

    def downloads() -> set[Path]:
        return {folder for kind in ("models", "bundles") for folder in (Path(".redistill") / kind).glob("*")}

    before = downloads()
    Students(registry.params).verified(version)
    registry.client.set_model_version_tag(registry.params.data.name, version, mlflow_names.TAG_MODEL_DIGEST, "0" * 64)
    for _ in range(2):
        with pytest.raises(RegistryError):
            Students(registry.params).verified(version)
    assert downloads() == before
