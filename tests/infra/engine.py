"""Podman, and Docker Compose that speaks to it, for tests of the images. What a machine needs besides (a runtime, limits, mirrors) is not written here:
``CONTAINERS_CONF`` names podman's own settings, ``REDISTILL_BASE`` the base image, and ``REDISTILL_BUILD_FLAGS`` holds flags of `podman build`."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.infra.validators import docker_compose
from tests.tiny_project import ROOT

PROJECT = "redistill-test"
FILES = ("infra/compose.yaml", "infra/compose.team.yaml")


def podman(*arguments: str, check: bool = True, timeout_s: float = 600.0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["podman", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout_s)
    assert done.returncode == 0 or not check, f"podman {' '.join(arguments)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done


def build(image: str, *arguments: str) -> tuple[float, int]:
    """Build an image as infra/README.md says; its seconds and bytes."""
    base = os.environ.get("REDISTILL_BASE")
    flags = [*shlex.split(os.environ.get("REDISTILL_BUILD_FLAGS", "")), *(["--build-arg", f"BASE={base}"] if base else [])]
    started = time.monotonic()
    podman("build", "-q", "-t", image, *flags, *arguments, timeout_s=3600)
    seconds = time.monotonic() - started
    [about] = json.loads(podman("image", "inspect", image).stdout)
    return seconds, int(about["Size"])


class Compose:
    """The team's set with an env file, through podman's socket."""

    def __init__(self, socket: Path, env_file: Path) -> None:
        self._environment = {**os.environ, "DOCKER_HOST": f"unix://{socket}"}
        program = docker_compose()
        assert program is not None
        self._command = [
            program,
            "-p",
            PROJECT,
            "--env-file",
            str(env_file),
            "--profile",
            "serving",
            *(part for name in FILES for part in ("-f", str(ROOT / name))),
        ]

    def __call__(self, *arguments: str, check: bool = True, timeout_s: float = 900.0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self._command, *arguments], env=self._environment, capture_output=True, text=True, check=False, timeout=timeout_s
        )
        assert done.returncode == 0 or not check, f"{arguments}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done


def container(service: str) -> str:
    return f"{PROJECT}-{service}-1"


def state(service: str) -> dict[str, Any]:
    done = podman("container", "inspect", container(service), check=False)
    return dict(json.loads(done.stdout)[0]["State"]) if done.returncode == 0 else {}


def health(service: str) -> str:
    """What its health check says; podman's versions keep it at two places."""
    now = state(service)
    return str(now.get("Health", now.get("Healthcheck", {})).get("Status", ""))


@contextmanager
def health_checks() -> Iterator[None]:
    """Run the health checks of all containers of the set again and again. Podman leaves this to timers of systemd, which a container or a small machine lacks."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(2.0):
            names = podman(
                "ps", "--format", "{{.Names}}", "--filter", f"label=com.docker.compose.project={PROJECT}", check=False
            ).stdout.split()
            for name in names:
                podman("healthcheck", "run", name, check=False)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def wait_for(true: Callable[[], object], sentence: str, timeout_s: float) -> None:
    """Poll until it is true."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {sentence}"
        time.sleep(0.2)
