"""The connection to a Ray cluster, for one stage."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

from redistill.cluster.settings import ADDRESS, ClusterSettings
from redistill.errors import ConfigError, one_line
from redistill.runtime.environment import DEFAULTS, QUIET

_REACHED_WITHIN_S = 5.0
_PASSED_ON = ("REDISTILL_", "GLOO_", "NCCL_", "HF_HUB_", "VLLM_")
_KEPT_HERE = ("KEY", "TOKEN", "SECRET", "PASSWORD", "REDISTILL_WARM")
"""Parts of names. The last one names the socket of this machine's fork server."""


@contextlib.contextmanager
def connected(settings: ClusterSettings) -> Iterator[Any]:
    """The module ``ray``, connected; disconnected at the end.

    Raises:
        ConfigError: Ray is not installed, there is no cluster at the address, or it runs other versions of Ray or Python.
    """
    # Each of Ray's own tries takes 40 seconds where a firewall drops what it sends.
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")
    try:
        import ray
    except ImportError:
        raise ConfigError(f"{ADDRESS} is set, but Ray is not installed; install redistill[scale], or unset {ADDRESS}") from None
    _require_reachable(settings.address)
    try:
        ray.init(
            address=settings.address,
            runtime_env={"env_vars": environment_of_replicas()},
            logging_level=logging.ERROR,
            # What a replica prints stays in Ray's logs on its node; its errors come back as errors.
            log_to_driver=False,
            include_dashboard=False if settings.address == "local" else None,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
        raise ConfigError(f"cannot join the Ray cluster at {ADDRESS}={settings.address}: {one_line(error)}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_reachable(address: str) -> None:
    """Ray itself tries for minutes."""
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"{ADDRESS}={address} is not an address; write HOST:PORT, or auto on a node of the cluster")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACHED_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {ADDRESS}={address} ({error}); start one with `ray start --head`, or unset {ADDRESS}"
        ) from None


def environment_of_replicas() -> dict[str, str]:
    """What a replica needs of this environment. No key and no password: it loads local weights only."""
    ours = {k: v for k, v in os.environ.items() if k.startswith(_PASSED_ON) and not any(word in k for word in _KEPT_HERE)}
    # `tasks` lies in the project or inside the package; a stage has its folder in this variable.
    return {**DEFAULTS, **ours, **QUIET, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}


def this_node() -> str:
    """The address of the node that this process runs on."""
    from ray import util

    return str(util.get_node_ip_address())  # type: ignore[no-untyped-call]
