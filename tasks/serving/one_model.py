"""Runs the server of one model in the foreground, as a container needs it: ``redistill serve-model student``.

The student's server follows the flag: after a promotion or a rollback it is started again with the version that is live. Until then the router asks the teacher,
because the server does not list the version.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace

from redistill.errors import ConfigError, StageError
from redistill.params import Params
from redistill.serving.route_flag import read_route
from redistill.teacher.openai import KEY_VARIABLE as TEACHER_KEY
from tasks.locking.locked_teacher import read_lock
from tasks.registry.transitions import FLAGS
from tasks.serving.router import LOOPBACK, STUDENT_KEY, Address
from tasks.serving.up_models import ModelServer, resolved_dtype, server_environment, student_server, teacher_server

_POLL_S = 1.0
_STOP_S = 30.0
_KEYS = {"student": STUDENT_KEY, "teacher": TEACHER_KEY}


def serve_model(params: Params, side: str, address: Address, say: Callable[[str], None]) -> None:
    """Serve until interrupted, each time the version that is live.

    Raises:
        ConfigError: an open address without a key, or a teacher that is an endpoint.
        RegistryError: the live version does not verify.
        StageError: vLLM ended.
    """
    key = os.environ.get(_KEYS[side], "").strip()
    if address.host not in LOOPBACK and not key:
        raise ConfigError(
            f"--host {address.host} is open to other machines, so the router needs a key; set {_KEYS[side]}, or listen at 127.0.0.1"
        )
    # vLLM reads the key there; an argument could be read by every user of the machine.
    environment = {**server_environment(), **({"VLLM_API_KEY": key} if key else {})}
    while True:
        served = _awaited(side, say)
        server = replace(_server(params, side, address.port, say), host=address.host)
        say(f"starting the {side}'s server ({server.name}) at http://{address.host}:{address.port}/v1")
        process = subprocess.Popen(server.command(resolved_dtype(params)), env=environment)
        try:
            while process.poll() is None and _live(side) in (served, ""):
                time.sleep(_POLL_S)
            if process.poll() is not None:
                raise StageError(f"the {side}'s server ended with status {process.returncode}; its lines are above")
            say(f"{_live(side)} is live now instead of {served}, so the server is started again")
        finally:
            _end(process)


def _awaited(side: str, say: Callable[[str], None]) -> str:
    """What is to be served, as soon as there is something."""
    if not _live(side):
        say(f"no version is live yet; the {side}'s server starts after the first promotion")
    while not (live := _live(side)):
        time.sleep(_POLL_S)
    return live


def _live(side: str) -> str:
    """What identifies the model that should be served; empty where there is none, or the flag cannot be read at the moment."""
    return read_route(FLAGS).model_version or "" if side == "student" else read_lock().fingerprint.digest


def _server(params: Params, side: str, port: int, say: Callable[[str], None]) -> ModelServer:
    server = student_server(params, port, say) if side == "student" else teacher_server(params, port)
    if server is None:
        raise ConfigError(f"the {side} needs no server here: the locked teacher is an endpoint; set REDISTILL_TEACHER_URL for the router")
    return server


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
