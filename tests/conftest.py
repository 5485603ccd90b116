"""What every test may use. Heavy imports stay inside fixtures, so that tests without torch start at once."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.cycles import LO_UP, LOOPBACK_ONLY, Command, FirstCycle, Ran, user_environment, with_registry
from tests.once import once, run_directory

if TYPE_CHECKING:
    from tests.forks import ForkServer
    from tests.team.backing import Backing, TeamServices

ROOT = Path(__file__).resolve().parents[1]

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# The first example of a session pays for lazy imports on a busy machine, hence no deadline and no "too slow".
settings.register_profile(
    "redistill", deadline=None, max_examples=50, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("redistill")


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A four-layer random-weight Llama with its tokenizer, in hub layout. Never write into it."""
    import torch

    from tests.tiny import make_tiny_model

    torch.set_num_threads(1)  # with matrices this small, two threads only wait for each other

    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


SLOW_FIRST = (
    "e2e/test_cycles.py",
    "e2e/test_wheel.py",
    "integration/test_moves.py",
    "integration/router/test_serve.py",
    "integration/test_up.py",
    "e2e/test_teachers.py",
    "e2e/test_generation.py",
    "e2e/test_promotion.py",
    "integration/test_kill_and_resume.py",
    "e2e/test_code_changes.py",
    "e2e/",
    "integration/",
    "contract/",
)
"""Files that take minutes: the workers start with them, so that no worker is left with one at the end.

`test_cycles` makes the first cycle. Files that copy it come after those that do not, or a worker would wait for it for two minutes.
"""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """At each new file, keep the garbage collector from visiting what is loaded by then. In a worker that has loaded every library, one collection takes half a second."""
    global _file
    if item.path != _file:
        _file = item.path
        gc.collect()
        gc.freeze()


_file: Path | None = None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        file = item.path.relative_to(ROOT / "tests").as_posix()
        return next((i for i, prefix in enumerate(SLOW_FIRST) if file.startswith(prefix)), len(SLOW_FIRST))

    items.sort(key=rank)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of a module with ``ON_BOTH_BACKINGS`` run twice: on files, and on the services of a team."""
    if "backing" in metafunc.fixturenames and getattr(metafunc.module, "ON_BOTH_BACKINGS", False):
        team = pytest.param("team", marks=pytest.mark.long)
        metafunc.parametrize("backing", ["files", team], indirect=True, scope="module")


@pytest.fixture(scope="session")
def team_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamServices]:
    """PostgreSQL, an S3 store, and an MLflow server on both. Skipped where PostgreSQL or moto is not installed."""
    from tests.team import object_store, postgres
    from tests.team.backing import TeamServices
    from tests.team.mlflow_server import BUCKET, team_mlflow

    if problem := postgres.missing() or object_store.missing():
        pytest.skip(problem)
    folder = tmp_path_factory.mktemp("team")
    with postgres.cluster() as cluster, object_store.object_store(folder) as store:
        cluster.create("mlflow")
        store.create(BUCKET)
        with team_mlflow(folder, cluster.address("mlflow"), store, direct=True) as url:
            yield TeamServices(cluster, store, url, "mlflow")


@pytest.fixture(scope="module")
def backing(request: pytest.FixtureRequest) -> Backing:
    """Where runs, versions and their files are; the project's own folder unless the module asks for both."""
    from tests.team.backing import FILES, TEAM, Backing

    if getattr(request, "param", FILES) == FILES:
        return Backing(FILES)
    services: TeamServices = request.getfixturevalue("team_services")
    return Backing(TEAM, {"MLFLOW_TRACKING_URI": services.url, **services.store.environment()}, services)


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(run_directory(tmp_path_factory) / "prefect-home", lambda _: None)


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory, prefect_home: Path) -> Path:
    """One Prefect server for the test run, as `redistill up` starts it: the folder of its log and record. Ended by ``pytest_sessionfinish``."""

    def start(folder: Path) -> None:
        from tests.servers import free_port, start_prefect

        port = free_port()
        start_prefect(folder, port, prefect_home)
        (folder / "api").write_text(f"http://127.0.0.1:{port}/api", encoding="utf-8")

    return once(run_directory(tmp_path_factory) / SERVER, start)


@pytest.fixture(scope="session")
def prefect_api(prefect_server: Path) -> str:
    return (prefect_server / "api").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory, prefect_home: Path, prefect_api: str) -> ForkServer:
    """The test run's processes with the heavy libraries, of which commands and stages are forks. They end with the process that started the workers."""
    from redistill.runtime.environment import child_environment
    from tests.forks import ForkServer

    def start(folder: Path) -> None:
        owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
        # Prefect reads its settings when it is imported. The rest is what a cycle's own server is started with.
        environment = child_environment() | {"PREFECT_HOME": str(prefect_home), "PREFECT_API_URL": prefect_api}
        environment |= {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
        command = [sys.executable, "-m", "tests.fork_servers", str(folder / "addresses.json"), str(owner)]
        with open(folder / "log", "ab") as log:
            subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)

    folder = once(run_directory(tmp_path_factory) / "fork-servers", start)
    return ForkServer(**json.loads((folder / "addresses.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer) -> Path:
    """MLflow's database with its tables and no row, which MLflow needs four seconds to make. The first cycle and the one from the wheel make their own."""

    from redistill.runtime.environment import child_environment

    def build(folder: Path) -> None:
        database = f"sqlite:///{folder}/mlflow.db"
        done = fork_server.run("mlflow", "db", "upgrade", database, env=child_environment(), server=fork_server.commands)
        assert done.returncode == 0, done.stderr

    return once(run_directory(tmp_path_factory) / "empty-registry", build) / "mlflow.db"


@pytest.fixture(scope="session")
def redistill(prefect_home: Path, prefect_api: str, fork_server: ForkServer) -> Command:
    """Run ``redistill -C PROJECT …`` and parse its last line as JSON when asked for with ``--json``.

    A fork of the session's server, unless ``cold``: then a process of its own, as a person starts it. A command behind a ``prefix`` is cold
    too; it may be cut off from the session's Prefect server and starts its own, as every command does without one.
    """

    def run(
        project: Path,
        *arguments: str,
        env: dict[str, str] | None = None,
        prefix: tuple[str, ...] = (),
        cold: bool = False,
        timeout_s: float = 600,
    ) -> Ran:
        # A command with a server of its own has a home of its own too: two servers would share one SQLite file.
        own = {"PREFECT_HOME": str(prefect_home.with_name("prefect-home-alone"))}
        environment = {**user_environment(), **(own if prefix else {"PREFECT_HOME": str(prefect_home), "PREFECT_API_URL": prefect_api})}
        environment |= env or {}
        if prefix or cold:
            command = [*prefix, str(Path(sys.executable).parent / "redistill"), "-C", str(project), *arguments]
            done: Any = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment)
        else:
            done = fork_server.run("redistill", "-C", str(project), *arguments, env=environment, timeout_s=timeout_s)
        lines = done.stdout.strip().splitlines()
        parsed = json.loads(lines[-1]) if "--json" in arguments and done.returncode == 0 else {}
        return Ran(done.returncode, parsed, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def first_cycle(tmp_path_factory: pytest.TempPathFactory, redistill: Command, empty_registry: Path) -> FirstCycle:
    """One cold, offline cycle for the whole test run; tests start from a copy of ``finished`` or of ``template``."""

    from tests.tiny_project import make_tiny_project

    def build(folder: Path) -> None:
        for left in ("finished", "template"):  # by another worker whose build failed: a cycle that goes on there is no first one
            shutil.rmtree(folder / left, ignore_errors=True)
        project = make_tiny_project(folder / "finished")
        # A network namespace with loopback only: nothing may need, or try to reach, anything else.
        done = redistill(project, "run", "--json", "--reason", "first", prefix=LOOPBACK_ONLY, env={"LO_UP": LO_UP})
        assert done.code == 0, done.stderr[-3000:]
        (folder / "outcome.json").write_text(json.dumps(done.result), encoding="utf-8")
        shutil.copytree(project, folder / "template", symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        # What the machine remembers of a registry's ledger and history goes with the registry.
        remembered = (".redistill/heldout-looks", ".redistill/history-pins")
        for left in (".redistill/mlflow", ".redistill/keys", *remembered, "artifacts/route", "artifacts/report"):
            shutil.rmtree(folder / "template" / left, ignore_errors=True)
        with_registry(folder / "template", empty_registry)

    folder = once(run_directory(tmp_path_factory) / "first-cycle", build)
    return FirstCycle(folder / "finished", json.loads((folder / "outcome.json").read_text(encoding="utf-8")), folder / "template")


SERVER = "prefect-server"


def pytest_unconfigure() -> None:
    gc.unfreeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The process that started the workers, or the only one, ends the servers that they shared."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    factory = getattr(session.config, "_tmp_path_factory", None)
    if factory is not None and (folder := factory.getbasetemp() / SERVER).is_dir():
        from tasks.operations import background_process
        from tests.servers import RECORD

        background_process.end(folder / RECORD)
