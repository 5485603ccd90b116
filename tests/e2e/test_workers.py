"""Workers elsewhere: clean clones of one project with a shared store. What one has asked and made, no other asks or makes again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from redistill.data.types import Prompt
from redistill.io.parquet import read_records
from redistill.runtime.environment import child_environment
from tests.cycles import Command, Ran, user_environment
from tests.e2e.test_teachers import ENDPOINT
from tests.servers import ask, fault_teacher, mlflow_server, stop, until
from tests.tiny_project import make_tiny_project

pytestmark = pytest.mark.cycles

BIN = Path(sys.executable).parent
YEARLY = "17 4 1 1 *"
IN_GIT = (
    "src",
    "tasks",
    "flows",
    "teacher-weights",
    "dvc.yaml",
    "params.yaml",
    "labelled.jsonl",
    "unlabelled.jsonl",
    "fairness.jsonl",
    "terms.md",
)
"""No lock, no dvc.lock and no cache: nobody has committed them."""
STORE = ".redistill/store/completions.sqlite"


@dataclass(frozen=True)
class Team:
    """A project whose first cycle has run in the folder ``driver``; ``record`` has what the endpoint was asked."""

    folder: Path
    environment: dict[str, str]
    record: Path
    first: Ran

    def clone(self, name: str) -> Path:
        """A clean clone."""
        target = self.folder / name
        target.mkdir()
        for each in IN_GIT:
            source = self.folder / "driver" / each
            if source.is_dir():
                shutil.copytree(source, target / each, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target / each)
        return target

    def asked(self) -> int:
        """How many completions the endpoint was asked for so far; the lock's probe and canaries are among them."""
        return sum('"prompt"' in line for line in self.record.read_text(encoding="utf-8").splitlines())

    def canaries(self) -> int:
        """How many requests an unchanged teacher costs at most: its canaries, and the lock's probe."""
        return len(json.loads((self.folder / "driver/.redistill/canary.json").read_text(encoding="utf-8"))["prompts"]) + 8


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, redistill: Command, empty_registry: Path) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("team")
    driver = make_tiny_project(folder / "driver", data__name="team", schedule={"nightly_cron": YEARLY}, **ENDPOINT)
    (driver / "teacher").rename(driver / "teacher-weights")
    record = folder / "asked.jsonl"
    (folder / "shared").mkdir()
    with fault_teacher(record, "--answer", "fee", "--no-logprobs") as url, mlflow_server(folder, empty_registry) as mlflow:
        environment = {
            "REDISTILL_TEACHER_URL": url,
            "REDISTILL_SHARED_STORE": (folder / "shared").as_uri(),
            "REDISTILL_LEASE_S": "6",
            "MLFLOW_TRACKING_URI": mlflow,
            "REDISTILL_SIGNING_KEY": str(driver / ".redistill/keys/signing.pem"),
            "NO_PROXY": "127.0.0.1",
        }
        # The first cycle makes the key, which a team shares as a secret.
        first = redistill(driver, "run", "--json", env={**environment, "REDISTILL_SIGNING_KEY": ""})
        assert first.code == 0, first.stderr[-3000:]
        yield Team(folder, environment, record, first)


def stored(project: Path) -> int:
    with closing(sqlite3.connect(project / STORE)) as database:
        return int(database.execute("SELECT count(*) FROM answers").fetchone()[0])


def objects(team: Team) -> dict[str, int]:
    """What the store has, without the lease, whose objects change all the time."""
    root = Path(team.environment["REDISTILL_SHARED_STORE"].removeprefix("file://"))
    return {
        file.relative_to(root).as_posix(): file.stat().st_mtime_ns
        for file in root.rglob("*")
        if file.is_file() and "/lease/" not in file.as_posix() and "/moves/" not in file.as_posix()
    }


def test_the_night_of_a_second_clean_clone_asks_and_makes_nothing(team: Team, redistill: Command) -> None:
    clone = team.clone("second")
    before = team.asked()
    done = redistill(clone, "run", "--json", env=team.environment)
    assert done.code == 0, done.stderr[-3000:]
    assert set(team.first.result["stages"].values()) == {"ran"}
    assert set(done.result["stages"].values()) <= {"unchanged", "restored"}, done.result["stages"]
    assert team.asked() - before <= team.canaries(), "only the canaries and the lock's probe"
    assert done.result["model_version"] == team.first.result["model_version"]
    assert stored(clone) == stored(team.folder / "driver") > 0
    # The stage itself, without what DVC restored: all completions are here.
    shutil.rmtree(clone / "artifacts/completions")
    between = team.asked()
    again = redistill(clone, "stage", "generate", env=team.environment)
    assert again.code == 0 and " 0 new, " in again.stdout + again.stderr, again.stderr[-2000:]
    assert team.asked() == between


def test_a_night_on_the_process_pool(team: Team, prefect_api: str, prefect_home: Path) -> None:
    """The worker of a clone that never ran takes the night of the project's one pool."""
    clone = team.clone("worker")
    env = {k: v for k, v in {**child_environment(), **user_environment()}.items() if k != "PYTHONPATH"} | {
        **team.environment,
        "PREFECT_HOME": str(prefect_home),
        "PREFECT_API_URL": prefect_api,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    before = team.asked()
    process = subprocess.Popen([str(BIN / "redistill"), "watch"], cwd=clone, env=env, start_new_session=True)
    try:
        deployments = {"deployments": {"name": {"any_": ["team-nightly"]}}}
        listed = until(f"{prefect_api}/deployments/filter", "POST", deployments, lambda r: r.is_success and r.json(), 180, process)
        [nightly] = listed.json()
        assert nightly["job_variables"]["working_dir"] == ".", "each worker runs it in its own folder"
        run = ask("POST", f"{prefect_api}/deployments/{nightly['id']}/create_flow_run", json={}).json()["id"]
        final = ("COMPLETED", "FAILED", "CRASHED")
        ended = until(f"{prefect_api}/flow_runs/{run}", good=lambda r: r.json()["state_type"] in final, timeout_s=600).json()
        assert ended["state_type"] == "COMPLETED", ended["state"]
    finally:
        stop(process)
        for deployment in ask("POST", f"{prefect_api}/deployments/filter", json={}).json():
            if deployment["name"] in ("team", "team-nightly"):
                ask("DELETE", f"{prefect_api}/deployments/{deployment['id']}")
    logs = ask("POST", f"{prefect_api}/logs/filter", json={"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}).json()
    messages = [line["message"] for line in logs]
    outcomes = dict(m.groups() for line in messages if (m := re.match(r"(\S+): (ran|restored|unchanged) \(", line)))
    assert outcomes.keys() == team.first.result["stages"].keys() and "ran" not in outcomes.values(), messages
    assert team.asked() - before <= team.canaries()
    assert "nothing to do" in (clone / ".redistill/last-cycle.json").read_text(encoding="utf-8")


def test_a_worker_with_other_code_is_refused_before_it_writes(team: Team, redistill: Command) -> None:
    clone = team.clone("edited")
    with open(clone / "tasks/stages/score.py", "a", encoding="utf-8") as file:
        file.write("\n\nANOTHER = 1\n")
    before, asked = objects(team), team.asked()
    refused = redistill(clone, "run", "--json", env=team.environment)
    assert refused.code == 2, refused.stderr[-2000:]
    [line] = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert "this clone's code.lock.json is not what" in line and "redistill lock --newest" in line
    assert objects(team) == before and team.asked() == asked and not (clone / ".redistill/store").exists()
    newest = redistill(clone, "lock", "--newest", "--json", env=team.environment)
    assert newest.code == 0, newest.stderr[-2000:]


def test_newest_needs_a_store(team: Team, redistill: Command) -> None:
    done = redistill(team.folder / "driver", "lock", "--newest", env={"REDISTILL_TEACHER_URL": team.environment["REDISTILL_TEACHER_URL"]})
    assert done.code == 2 and "REDISTILL_SHARED_STORE is not set" in done.stderr


def test_gc_frees_the_store_and_a_clean_clone_still_makes_nothing(team: Team, redistill: Command) -> None:
    driver = team.folder / "driver"
    root = Path(team.environment["REDISTILL_SHARED_STORE"].removeprefix("file://"), "team")
    # What a cycle of long ago left: its record, its files and the weights of a student.
    old = [f"dvc/files/md5/ab/{'c' * 30}", "files/old", "heads/000000000000.json"]
    record = json.loads(next((root / "heads").iterdir()).read_text(encoding="utf-8"))
    for path, content in zip(
        old, (bytes(100_000), b"old", json.dumps({**record, "token": 0, "files": {"dvc.lock": "old"}}).encode()), strict=True
    ):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(content)
        os.utime(root / path, (1.6e9, 1.6e9))
    refused = redistill(driver, "gc", "--shared", env={**team.environment, "REDISTILL_SHARED_STORE": ""})
    assert refused.code == 2 and "REDISTILL_SHARED_STORE is not set" in refused.stderr
    before = objects(team)
    planned, done, again = (redistill(driver, "gc", "--shared", "--json", *more, env=team.environment) for more in (["--dry-run"], [], []))
    assert planned.code == done.code == again.code == 0, done.stderr[-3000:]
    assert before.keys() - objects(team).keys() == {f"team/{path}" for path in old}
    freed = {removed["kind"]: removed for removed in done.result["removed"]}
    assert freed["objects in the shared store"]["bytes"] == 100_000 and freed["records of cycles in the shared store"]["count"] == 2
    assert planned.result["removed"] == done.result["removed"] and again.result["removed"] == []
    clean, asked = team.clone("after-gc"), team.asked()
    night = redistill(clean, "run", "--json", env=team.environment)
    assert night.code == 0 and "ran" not in night.result["stages"].values(), night.stderr[-3000:]
    assert team.asked() - asked <= team.canaries()
    assert redistill(clean, "lineage", str(team.first.result["model_version"]), "--json", env=team.environment).result["broken"] == 0


def test_a_forgotten_prompt_does_not_come_back_from_the_store(team: Team, redistill: Command) -> None:
    driver = team.folder / "driver"
    prompt = read_records(driver / "artifacts/prompts/pool.parquet", Prompt)[0]
    clone = team.clone("before")
    assert redistill(clone, "run", "--json", env=team.environment).code == 0
    done = redistill(driver, "forget", prompt.id, "--reason", "the customer asked", "--json", env=team.environment)
    assert done.code == 0 and done.result["problems"] == [] and done.result["completions"] > 0, done.stderr[-2000:]
    text = prompt.messages[-1].content.encode()
    root = Path(team.environment["REDISTILL_SHARED_STORE"].removeprefix("file://"))
    assert len(text) > 12 and not [file for file in root.rglob("*") if file.is_file() and text in file.read_bytes()]
    total = stored(driver)
    for name, project in (("before", clone), ("after", team.clone("after"))):
        night = redistill(project, "run", "--json", env=team.environment)
        assert night.code == 0, (name, night.stderr[-3000:])
        assert stored(project) == total, name
        with closing(sqlite3.connect(project / STORE)) as database:
            assert database.execute("SELECT count(*) FROM prompts WHERE prompt = ?", (prompt.id,)).fetchone()[0] == 0, name
        pool = read_records(project / "artifacts/prompts/pool.parquet", Prompt)
        assert prompt.id not in {row.id for row in pool} and len(pool) > 10


def unshared(project: Path) -> int:
    """How many completions of this clone are in no segment."""
    with closing(sqlite3.connect(f"file:{project / STORE}?mode=ro", uri=True, timeout=60)) as database:
        return int(database.execute("SELECT count(*) FROM answers WHERE key NOT IN (SELECT key FROM in_segment)").fetchone()[0])


def kill_when(process: subprocess.Popen[bytes], ready: Callable[[], bool], timeout_s: float = 240.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.long
def test_a_killed_worker_is_replaced_and_what_it_asked_is_not_asked_again(
    team: Team, redistill: Command, prefect_api: str, prefect_home: Path
) -> None:
    """The settings change, so that everything is asked again; the worker dies in training, and another clone goes on."""
    clones = [team.clone(name) for name in ("killed", "replacing")]
    for clone in clones:
        settings = (clone / "params.yaml").read_text(encoding="utf-8")
        (clone / "params.yaml").write_text(settings.replace("max_tokens: 16", "max_tokens: 15"), encoding="utf-8")
        newest = redistill(clone, "lock", "--newest", env=team.environment)
        assert newest.code == 0, newest.stderr[-2000:]
    env = {**user_environment(), **team.environment, "PREFECT_HOME": str(prefect_home), "PREFECT_API_URL": prefect_api}
    log = team.folder / "killed.log"
    with log.open("wb") as lines:
        process = subprocess.Popen([str(BIN / "redistill"), "run"], cwd=clones[0], env=env, start_new_session=True, stderr=lines)
    # Until the stage has asked, and its completions are in the store; training follows.
    kill_when(process, lambda: " new, 0 from the store" in log.read_text(encoding="utf-8") and not unshared(clones[0]))
    done = redistill(clones[1], "run", "--json", env=team.environment)
    assert done.code == 0, done.stderr[-3000:]
    assert "has the lease of this project" in done.stderr
    [line] = [line for line in done.stderr.splitlines() if "[generate]" in line and " from the store" in line and " new, " in line]
    assert " 0 new, " in line, "what the killed worker asked is in the store"
