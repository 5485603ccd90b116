"""One arm, trained by several processes that share each batch: on this machine, or on several nodes of a Ray cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from redistill.cluster.connection import connected
from redistill.cluster.launch import run_on_nodes
from redistill.cluster.settings import TRAIN_NODES, TRAIN_PROCESSES, cluster_settings
from redistill.errors import ConfigError, DataError, TeacherError
from redistill.runtime.cpu import usable_cores

_EXITED = re.compile(r"exitcode\s*:\s*(\d+)")
_INPUTS = "REDISTILL_TRAIN_INPUTS"


def train_in_processes(arm: str, processes: int, nodes: int, threads: int | None, inputs: str) -> None:
    """Run the stage in several processes. torchrun starts them; this process waits for them.

    Args:
        processes: over all nodes.
        threads: CPU threads of each process; None shares the cores of a machine.
        inputs: digest of all that decides what is trained. A process whose project has another one stops before it trains.

    Raises:
        ConfigError: processes that the nodes cannot share evenly, or what a process reported as such.
        DataError, TeacherError: what a process reported as such, or a process that ended without a report.
    """
    if processes % nodes:
        raise ConfigError(
            f"{TRAIN_PROCESSES}: {processes} processes cannot be shared by {TRAIN_NODES}={nodes} nodes; set a multiple of {nodes}"
        )
    each, heard = processes // nodes, _Heard()
    environment = {"OMP_NUM_THREADS": str(threads or max(1, usable_cores() // each)), _INPUTS: inputs}
    stage = [f"--nproc-per-node={each}", "-m", "tasks.running.run_stage", "finetune", arm]
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    if nodes == 1:
        # Each process is a fork of the cycle's fork server where there is one: otherwise every one of them would load all libraries again.
        code = _here([*torchrun, "--standalone", "--local-addr", "127.0.0.1", *stage], environment, heard)
    else:
        settings = cluster_settings()
        assert settings is not None

        def command(number: int, address: str, port: int) -> list[str]:
            return [*torchrun, f"--nnodes={nodes}", f"--node-rank={number}", f"--master-addr={address}", f"--master-port={port}", *stage]

        with connected(settings) as ray:
            code = run_on_nodes(ray, nodes, command, environment, heard)
    heard.raise_for(code, processes)


def require_same_inputs(inputs: str) -> None:
    """Stop a process whose project is not the one that is trained.

    Raises:
        DataError: this node's copy of the project has other settings, code, rows or weights.
    """
    if os.environ.get(_INPUTS, inputs) != inputs:
        raise DataError(
            f"{os.uname().nodename} has other settings, code, rows or weights in its copy of the project than the node that started the training; "
            "give every node the same folder, for example on a shared file system"
        )


def _here(command: list[str], environment: dict[str, str], heard: _Heard) -> int:
    with subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True) as children:
        assert children.stderr is not None
        for line in children.stderr:
            heard(line)
    return children.returncode


class _Heard:
    """What the processes print. torchrun's own exit code is always 1, and every process reports the same error."""

    def __init__(self) -> None:
        self._code, self._errors = 1, dict[str, None]()

    def __call__(self, line: str) -> None:
        if line.startswith("error: "):
            self._errors[line.removeprefix("error: ").strip()] = None
        else:
            print(line, end="", file=sys.stderr, flush=True)
        if found := _EXITED.search(line):
            self._code = int(found[1])

    def raise_for(self, code: int, processes: int) -> None:
        if code and self._errors:
            kind = {ConfigError.exit_code: ConfigError, TeacherError.exit_code: TeacherError}.get(self._code, DataError)
            raise kind("; ".join(self._errors))
        if code:
            raise DataError(
                f"training in {processes} processes ended with exit code {code}; the log lines above show the reason; "
                "run again: training continues from its last checkpoint"
            )
