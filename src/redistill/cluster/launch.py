"""One training over several nodes: torchrun on each, started by Ray, with a fixed place to meet.

Ray only starts, watches and ends the processes. What they exchange goes over torch.distributed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from redistill.cluster.connection import this_node
from redistill.errors import ConfigError, DataError, one_line
from redistill.runtime.parent import end_with_parent

_LOOK_EVERY_S = 5.0


def run_on_nodes(
    ray: Any, nodes: int, command: Callable[[int, str, int], Sequence[str]], environment: Mapping[str, str], hear: Callable[[str], None]
) -> int:
    """Run one command a node, and return the first exit code that is not 0, else 0. When one ends with an error, the others are ended.

    Args:
        nodes: how many; this machine is the first of them, so that what rank 0 writes is here.
        command: from the number of the node, and the address and port where all meet, to its command line.
        environment: variables of the commands beside those of the node.
        hear: gets every line that they print.

    Raises:
        ConfigError: the cluster has too few nodes.
        DataError: a node was lost.
    """
    here = ray.get_runtime_context().get_node_id()
    alive = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    if len(alive) < nodes:
        raise ConfigError(f"training on {nodes} nodes, but the Ray cluster has {len(alive)}; add nodes, or lower REDISTILL_TRAIN_NODES")
    chosen = [here, *(node for node in alive if node != here)][:nodes]
    address, port = this_node(), _free_port()
    affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    remote = ray.remote(num_cpus=0, max_retries=0)(_run)
    streams = {}
    for number, node in enumerate(chosen):
        options = remote.options(scheduling_strategy=affinity(node_id=node, soft=False), num_returns="streaming")
        streams[options.remote(list(command(number, address, port)), dict(environment), Path.cwd())] = number
    try:
        return _watch(ray, streams, hear)
    finally:
        for stream in streams:
            with contextlib.suppress(ray.exceptions.RayError, TypeError, ValueError):
                ray.cancel(stream, force=True)


def _watch(ray: Any, streams: dict[Any, int], hear: Callable[[str], None]) -> int:
    open_streams = list(streams)
    while open_streams:
        ready, _ = ray.wait(open_streams, num_returns=1, timeout=_LOOK_EVERY_S)
        for stream in ready:
            try:
                heard = ray.get(next(stream))
            except StopIteration:
                open_streams.remove(stream)
                continue
            except ray.exceptions.RayTaskError as error:
                raise DataError(f"node {streams[stream] + 1} of the training could not start: {one_line(error.cause)}") from None
            except ray.exceptions.RayError as error:
                raise DataError(
                    f"node {streams[stream] + 1} of the training was lost ({one_line(error)}); run again: training continues from its last checkpoint"
                ) from None
            if isinstance(heard, str):
                hear(heard)
            elif heard:
                return int(heard)
    return 0


def _run(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[str | int]:
    """Runs on a node: the lines that a command prints, then its exit code."""
    if not folder.is_dir():
        raise DataError(f"{this_node()} has no folder {folder}; every node needs the project there, for example on a shared file system")
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=functools.partial(end_with_parent, signal.SIGTERM),
    )
    assert process.stdout is not None
    with process:
        # Not `yield from`: Ray sends values into a generator, and a file takes none.
        for line in process.stdout:  # noqa: UP028
            yield line
    yield process.returncode


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])
