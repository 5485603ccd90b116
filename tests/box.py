"""A project whose services run (``redistill up``), as tests and the soak use it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.cycles import user_environment
from tests.servers import ask

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Box:
    """A project whose services run, and their addresses."""

    project: Path
    prefect: int
    mlflow: int
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.prefect}/api"

    def run(self, *arguments: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / "redistill"), "-C", str(folder or self.project), *arguments]
        return subprocess.run(
            command, env={**user_environment(), **self.environment, **environment}, capture_output=True, text=True, timeout=300, check=False
        )

    def up(self) -> subprocess.CompletedProcess[str]:
        return self.run("up", "--prefect-port", str(self.prefect), "--mlflow-port", str(self.mlflow))

    def pid(self, service: str) -> int:
        return int(json.loads((self.project / f".redistill/services/{service}.json").read_text(encoding="utf-8"))["pid"])

    def log(self, service: str) -> str:
        return (self.project / f".redistill/services/logs/{service}.log").read_text(encoding="utf-8")

    def deployments(self) -> dict[str, dict[str, Any]]:
        """By the name of their flow."""
        listed = ask("POST", f"{self.api}/deployments/filter", json={}).json()
        return {d["entrypoint"].rpartition(".")[2]: d for d in listed}


def wait_for(condition: Callable[[], object], timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def edit(box: Box, **sections: dict[str, object]) -> None:
    """Change keys of params.yaml."""
    file = box.project / "params.yaml"
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    for name, keys in sections.items():
        tree[name] = {**tree.get(name, {}), **keys}
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
