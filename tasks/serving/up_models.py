"""Starts the servers of both models on this machine, with vLLM: ``redistill up-models``. ``redistill down`` ends them.

The student's weights are those of the live version, with its signature checked. They are copied to a folder of their own, so that what is served cannot change
under the server, and a later cycle disturbs nothing.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from redistill.errors import ConfigError, StageError
from redistill.io.json import read_json, write_json
from redistill.models.checkpoints import context_tokens
from redistill.models.token_trace import TOP
from redistill.params import Params
from redistill.runtime.environment import child_environment, vllm_environment
from redistill.runtime.precision import dtype_name, training_device
from redistill.runtime.processes import read_record
from redistill.serving.number_format import name_with_format
from redistill.serving.route_flag import read_route
from tasks.locking.locked_teacher import read_lock, require_locked_weights
from tasks.operations import background_process
from tasks.operations.services import healthy
from tasks.paths import STATE
from tasks.registry.runs_and_versions import connect
from tasks.registry.transitions import FLAGS
from tasks.serving.models import teacher_name
from tasks.serving.served_version import live_artifact, server_name

FOLDER = STATE / "serving"
RECORD = FOLDER / "models.json"
NEXT_PORT = 8102
START_TIMEOUT_S = 600.0
_KV_BYTES = 512 << 20
_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class ModelServer:
    """One server: ``side`` is student, next (the second server of students) or teacher; ``name`` is what it lists."""

    side: str
    name: str
    weights: Path
    port: int
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def record(self) -> Path:
        return FOLDER / f"{self.side}.json"

    @property
    def log(self) -> Path:
        return FOLDER / "logs" / f"{self.side}.log"

    def command(self, dtype: str) -> list[str]:
        length = min(context_tokens(self.weights) or _LONGEST, _LONGEST)
        command = [
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(self.weights.absolute())),
            # Two names, because vLLM does not say its number format itself.
            *("--served-model-name", self.name, name_with_format(self.name, dtype), "--dtype", dtype),
            *("--host", self.host, "--port", str(self.port)),
            *("--max-model-len", str(length), "--max-logprobs", str(TOP), "--max-num-seqs", "64"),
            # Not "auto", which takes sampling defaults from the checkpoint.
            *("--generation-config", "vllm", "--no-enable-log-requests"),
        ]
        on_cpu = training_device() == "cpu"
        return [*command, *(("--enforce-eager", "--kv-cache-memory-bytes", str(_KV_BYTES)) if on_cpu else ())]


def server_environment() -> dict[str, str]:
    """The environment of a server's process."""
    return {**vllm_environment(training_device()), **child_environment()}


def resolved_dtype(params: Params) -> str:
    """The number format in which the student's server computes; "auto" where the setting is that, and this installation has no torch to ask what suits the machine."""
    if params.serve.student_dtype != "auto" or importlib.util.find_spec("torch") is None:
        return params.serve.student_dtype
    return dtype_name(device=training_device())


def up_models(params: Params, ports: Mapping[str, int], say: Callable[[str], None]) -> dict[str, str]:
    """Start the servers that do not run yet, and wait until they answer; returns their addresses.

    An endpoint as the teacher has no server here. Without a live version only the teacher is started.

    Raises:
        RegistryError: the live version does not verify.
        StageError: a server ended before it was ready.
    """
    if "next" not in ports and listed_names(kept := recorded_urls().get("next", "")):
        # It runs, and the router must not forget it.
        ports = {**ports, "next": int(kept.rpartition(":")[2].removesuffix("/v1"))}
    place = _place(params, ports) if "next" in ports else "student"
    both = (teacher_server(params, ports["teacher"]), student_server(params, ports[place], say, place))
    servers = [server for server in both if server is not None]
    for server in servers:
        _start(server, resolved_dtype(params), say)
    for server in servers:
        _wait(server, say)
    urls = {server.side: server.url for server in servers}
    # The student's address also where no version is live yet: the router then starts with the teacher, and finds the student when there is one.
    other = {place: f"http://127.0.0.1:{port}/v1" for place, port in ports.items() if place != "teacher"}
    write_json(RECORD, {"urls": {**other, **urls}})
    return urls


def _place(params: Params, ports: Mapping[str, int]) -> str:
    """Where the live version is, or may be started: not in the place of the version before it, which still answers."""
    route = read_route(FLAGS)
    names = {place: listed_names(f"http://127.0.0.1:{ports[place]}/v1") for place in ("next", "student")}
    live = server_name(params, route.model_version or "")
    before = None if route.rollout is None else server_name(params, route.rollout.version)

    def rank(place: str) -> int:
        listed = names[place]
        return 0 if live in listed else 1 if not listed else 2 if before not in listed else 3

    place = min(names, key=rank)
    if rank(place) == 3:
        raise ConfigError(f"both servers list {before}, so there is no place for {live}; end one of them")
    if rank(place) == 2:
        # An earlier version, which nobody needs any more.
        background_process.end(FOLDER / f"{place}.json")
    return place


def down_models(say: Callable[[str], None]) -> list[str]:
    """End exactly what ``up_models`` started."""
    ended = []
    for side in ("student", "next", "teacher"):
        if background_process.end(FOLDER / f"{side}.json") is not None:
            say(f"the {side}'s server has ended")
            ended.append(f"{side}'s server")
    RECORD.unlink(missing_ok=True)
    return ended


def recorded_urls() -> dict[str, str]:
    """The addresses of the servers that were started here."""
    return dict(read_json(RECORD)["urls"]) if RECORD.is_file() else {}


def teacher_server(params: Params, port: int) -> ModelServer | None:
    """The server of the locked teacher; None where it is an endpoint."""
    lock = read_lock()
    if lock.backend == "openai":
        return None
    return ModelServer("teacher", teacher_name(params, lock.fingerprint.digest), require_locked_weights(lock), port)


def student_server(params: Params, port: int, say: Callable[[str], None], place: str = "student") -> ModelServer | None:
    """The server of the live version, whose verified weights are copied to a folder of its own; None without a live version.

    Raises:
        RegistryError: the version does not verify.
    """
    version = read_route(FLAGS).model_version
    if version is None:
        say("no version is live, so only the teacher is served; after a promotion, run this command again")
        return None
    server = ModelServer(place, server_name(params, version), FOLDER / f"student-{version}", port)
    artifact = live_artifact(connect(params), params, version)
    # A server that runs reads its weights from there.
    if not _lists(server):
        shutil.rmtree(server.weights, ignore_errors=True)
        FOLDER.mkdir(parents=True, exist_ok=True)
        shutil.copytree(artifact.weights, server.weights)
    return server


def _start(server: ModelServer, dtype: str, say: Callable[[str], None]) -> None:
    if _lists(server):
        say(f"the {server.side}'s server runs already at {server.url}")
        return
    background_process.end(server.record)
    server.log.unlink(missing_ok=True)
    background_process.start(server.command(dtype), server_environment(), server.log, server.record)
    say(f"starting the {server.side}'s server ({server.name}) at {server.url}; its log is {server.log}")


def _wait(server: ModelServer, say: Callable[[str], None]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _lists(server):
        record = read_record(server.record)
        if record is None or record.process() is None:
            raise StageError(f"the {server.side}'s server ended before it was ready: {_last_line(server.log)}; see {server.log}")
        if time.monotonic() > deadline:
            raise StageError(f"the {server.side}'s server is not ready after {START_TIMEOUT_S:.0f} s; see {server.log}")
        time.sleep(0.5)
    say(f"the {server.side}'s server is ready")


def _lists(server: ModelServer) -> bool:
    """Whether the server answers, and lists what it should."""
    if not healthy(f"{server.url}/models"):
        return False
    names = listed_names(server.url)
    if not names:
        return False
    if server.name not in names:
        raise ConfigError(
            f"port {server.port} already serves {', '.join(names)}, and not {server.name}; end it with `redistill down`, or choose another port"
        )
    return True


def listed_names(url: str) -> list[str]:
    """What a server lists; nothing where none answers."""
    import httpx

    try:
        listed = httpx.get(f"{url}/models", timeout=5.0).json()["data"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
        return []
    return [str(m.get("id")) for m in listed if isinstance(m, dict)]


def _last_line(log: Path) -> str:
    try:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    except OSError:
        return "it has no log"
    return (lines[-1] if lines else "its log is empty")[:300]
