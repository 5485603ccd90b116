"""The router that runs here: its address, and the token with which a drill may ask it. The file is for this user alone."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from redistill.io.json import read_json, write_json
from tasks.paths import ROUTER


@dataclass(frozen=True, slots=True)
class RunningRouter:
    """``url`` ends before ``/v1``. ``token`` is empty where the router is another machine's."""

    url: str
    token: str


def record_router(host: str, port: int, token: str) -> None:
    """Write down where the router is. An address that listens everywhere is asked at loopback.

    A drill is accepted from loopback only, so a router that listens at another address alone has no use for a token: it is asked with the header that demands the teacher.
    """
    asked = "127.0.0.1" if host in ("0.0.0.0", "", "::") else host  # noqa: S104 - compared, not bound
    name = f"[{asked}]" if ":" in asked else asked
    on_loopback = asked in ("127.0.0.1", "::1", "localhost")
    record = {"url": f"http://{name}:{port}", "token": token if on_loopback else "", "pid": os.getpid(), "host": socket.gethostname()}
    ROUTER.parent.mkdir(parents=True, exist_ok=True)
    # The token must not be readable for a moment.
    mask = os.umask(0o077)
    try:
        write_json(ROUTER, record)
        os.chmod(ROUTER, 0o600)
    finally:
        os.umask(mask)


def forget_router() -> None:
    """After the end of this process's router. The record of another one that has been started meanwhile stays."""
    try:
        if read_json(ROUTER)["pid"] == os.getpid():
            ROUTER.unlink(missing_ok=True)
    except (OSError, ValueError, KeyError, TypeError):
        return


def running_router(file: Path = ROUTER) -> RunningRouter | None:
    """The router of ``REDISTILL_ROUTER_URL``, or the one that was started here and not ended; None where there is none."""
    recorded: RunningRouter | None
    try:
        tree = read_json(file)
        # Containers share the folder of the project, and each has a loopback of its own.
        recorded = RunningRouter(str(tree["url"]), str(tree["token"])) if tree["host"] == socket.gethostname() else None
    except (OSError, ValueError, KeyError, TypeError):
        recorded = None
    address = os.environ.get("REDISTILL_ROUTER_URL", "").strip().rstrip("/").removesuffix("/v1")
    if not address or (recorded is not None and recorded.url == address):
        return recorded
    return RunningRouter(address, "")
