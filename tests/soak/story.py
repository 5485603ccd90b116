"""The project of the soak, its servers, and what its checks ask them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.box import Box, edit
from tests.servers import free_port
from tests.tiny_project import make_tiny_project

ROOT = Path(__file__).resolve().parents[2]
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
PARAMS: dict[str, Any] = {
    "teacher__model": "served",
    "teacher__backend": "openai",
    "teacher__max_retries": 1,
    "teacher__canary_hours": 0.0,
    "tune_teacher__method": "off",
    "score__top_k": 0,
    "student__model": "teacher-weights",
    "finetune__arms": {"gold": {"rows": "gold"}, "sft": {"rows": "gold_and_teacher"}},
    "finetune__common__tokens": 60000,
    "tune__space": {"learning_rate": [0.001, 0.02], "layers": [1, 2]},
    "promote__arm": "sft",
    "promote__gates": [
        "audit",
        *({"name": who, "margin": 0.6} for who in ("teacher", "champion", "reference")),
        {"name": "smaller"},
        {"name": "faster", "below": 1000.0},
    ],
    "promote__alpha_per_heldout": 0.2,
    "promote__looks_per_heldout": 12,
    "schedule": {
        "nightly_cron": "30 1 * * *",
        "watch_cron": "17 4 1 1 *",
        "drill_cron": "17 4 1 1 *",
        "traffic_cron": "17 4 1 1 *",
        "timezone": "America/New_York",
        "retry_minutes": [0.1],
    },
}


class Story:
    """One project and what happens to it."""

    def __init__(self, folder: Path) -> None:
        self.project = make_tiny_project(folder / "project", **PARAMS)
        (self.project / "teacher").rename(self.project / "teacher-weights")
        (self.project / ".gitignore").write_text(
            "/artifacts/\n/.redistill/\n/.dvc/\n/teacher-weights/\n__pycache__/\nasked.jsonl\nbehaviour.json\n", encoding="utf-8"
        )
        self.behave()
        self._git("init", "-q")
        self._git("add", "-A")
        self._git("commit", "-qm", "project")
        self.endpoint = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.endpoint", str(self.project)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.endpoint.stdout is not None
        url = f"http://127.0.0.1:{int(self.endpoint.stdout.readline())}/v1"
        self.box = Box(self.project, free_port(), free_port(), {"REDISTILL_TEACHER_URL": url, "REDISTILL_USER": "soak"})
        self.seed = 7

    def _git(self, *arguments: str) -> None:
        who = ["-c", "user.name=soak", "-c", "user.email=soak@example.invalid"]
        subprocess.run(["git", *who, *arguments], cwd=self.project, check=True, capture_output=True)

    # What the world does.

    def behave(self, wrong: dict[str, float] | None = None, *, fingerprint: str = "fp-1", down: bool = False) -> None:
        """How the endpoint answers from now on."""
        tree = {"wrong": wrong or {}, "fingerprint": fingerprint, "down": down}
        file = self.project / "behaviour.json"
        new = file.with_suffix(".new")
        new.write_text(json.dumps(tree), encoding="utf-8")
        new.rename(file)

    def train_again(self) -> None:
        """Something that makes the next cycle train."""
        self.seed += 1
        edit(self.box, finetune={"common": {**self.params()["finetune"]["common"], "seed": self.seed}})

    def params(self) -> dict[str, Any]:
        import yaml

        return dict(yaml.safe_load((self.project / "params.yaml").read_text(encoding="utf-8")))

    # What the Prefect server is asked.

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Retried: a request may meet the server while it starts, or its database while it is locked."""
        deadline = time.monotonic() + 60
        while True:
            try:
                response = httpx.post(f"{self.box.api}{path}", json=body, timeout=30)
                response.raise_for_status()
                return response.json() if response.content else None
            except httpx.HTTPError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def deployment(self, flow: str) -> str:
        return str(self.box.deployments()[flow]["id"])

    def start(self, reason: str, flow: str = "distill_student") -> str:
        """Ask for a run, as a schedule or a person in the UI does; its id."""
        parameters = {"reason": reason} if flow == "distill_student" else {}
        return str(
            self.post(f"/deployments/{self.deployment(flow)}/create_flow_run", {"parameters": parameters, "state": {"type": "SCHEDULED"}})[
                "id"
            ]
        )

    def run(self, run_id: str) -> dict[str, Any]:
        return dict(httpx.get(f"{self.box.api}/flow_runs/{run_id}", timeout=30).json())

    def wait(self, run_id: str, timeout_s: float = 300.0) -> dict[str, Any]:
        """The run when it has ended; the server may be away meanwhile."""
        return self.until(lambda: run if (run := self.run(run_id))["state_type"] in FINAL else None, f"run {run_id} ends", timeout_s)

    def cycle(self, reason: str, timeout_s: float = 300.0) -> dict[str, Any]:
        return self.wait(self.start(reason), timeout_s)

    def runs(self, flow: str = "distill_student") -> list[dict[str, Any]]:
        """The runs of a flow that have begun or ended, newest first."""
        filters = {"deployments": {"id": {"any_": [self.deployment(flow)]}}, "sort": "START_TIME_DESC", "limit": 100}
        return [run for run in self.post("/flow_runs/filter", filters) if run["state_type"] not in ("SCHEDULED", "PENDING")]

    def logs(self, run_id: str) -> list[str]:
        filters = {"logs": {"flow_run_id": {"any_": [run_id]}}, "limit": 200, "sort": "TIMESTAMP_DESC"}
        return [line["message"] for line in self.post("/logs/filter", filters)]

    def until_training(self, run_id: str) -> None:
        """Until the run trains: the middle of a cycle."""
        self.until(lambda: any("[finetune@" in line for line in self.logs(run_id)), f"run {run_id} trains", 120)

    def events(self, name: str) -> int:
        return int(self.post("/events/filter", {"filter": {"event": {"name": [name]}}})["total"])

    # What the project is asked.

    def command(self, *arguments: str) -> dict[str, Any]:
        done = self.box.run(*arguments, "--json")
        assert done.returncode == 0, f"redistill {' '.join(arguments)}: {done.stderr[-1000:]}"
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def route(self) -> str:
        flags = json.loads((self.project / "artifacts/route/flags.json").read_text(encoding="utf-8"))
        return str(flags["flags"]["redistill-route"]["defaultVariant"])

    def lock(self) -> dict[str, Any]:
        return dict(json.loads((self.project / "teacher.lock.json").read_text(encoding="utf-8")))

    def asked(self) -> list[dict[str, Any]]:
        """Every request to the endpoint so far."""
        file = self.project / "asked.jsonl"
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []

    def canaries(self) -> set[str]:
        tree = json.loads((self.project / ".redistill/canary.json").read_text(encoding="utf-8"))
        return {prompt["messages"][-1]["content"].strip() for prompt in tree["prompts"]}

    def versions(self) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{self.box.mlflow}/api/2.0/mlflow/model-versions/search"
        return list(httpx.get(url, params={"filter": "name = 'tiny'", "max_results": 100}, timeout=30).json().get("model_versions", []))

    def history(self) -> list[dict[str, Any]]:
        return list(self.command("history")["events"])

    def processes(self) -> list[psutil.Process]:
        """Every process that works in the project."""
        processes = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.project) and process.pid != os.getpid():
                    processes.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return processes

    def workers(self) -> list[psutil.Process]:
        """Those that a cycle started."""
        return [
            p
            for p in self.processes()
            if any(word in " ".join(p.cmdline()) for word in ("prefect.engine", "fork_server", "redistill stage"))
        ]

    def until(self, value: Callable[[], Any], what: str, timeout_s: float) -> Any:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                if got := value():
                    return got
            except (httpx.HTTPError, KeyError, ValueError, psutil.Error):
                pass  # the server is away, or has just come back
            assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
            time.sleep(0.25)

    @contextmanager
    def server_down(self, seconds: float) -> Iterator[None]:
        """Prefect's server is gone for so long; the supervisor sleeps meanwhile, or it would start it again."""
        supervisor = psutil.Process(self.box.pid("supervisor"))
        server = psutil.Process(self.box.pid("prefect"))
        supervisor.suspend()
        for process in (*server.children(recursive=True), server):
            process.kill()
        gone = time.monotonic()
        try:
            yield
            time.sleep(max(0.0, seconds - (time.monotonic() - gone)))
        finally:
            supervisor.resume()

    def end(self) -> None:
        self.box.run("down")
        self.endpoint.terminate()
        self.endpoint.wait(10)
