"""What OpenMP's threads cost a training step: how they wait, how many there are, and one busy process beside them.

``python -m tests.bench.threads``: the ``logit`` step of ``tests.bench.train_step`` at the example's shape. Each setting is a process (or two) that trains without
end; all settings but one are stopped, for some seconds in turn, so that a machine that changes its pace changes it for all. Each cell is the median over the turns, with the least and the
most. PyTorch's
OpenMP runtime on Linux is libgomp, which reads its settings when it is loaded. Wants the machine for itself, and 2 GB of memory a setting.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from redistill.runtime.environment import DEFAULTS
from tests.bench import train_step

SLEEP = {"GOMP_SPINCOUNT": "0"}
SETTINGS: dict[str, list[dict[str, str]]] = {
    "libgomp's default": [{}],
    "GOMP_SPINCOUNT=0 (ours)": [SLEEP],
    "GOMP_SPINCOUNT=1000": [{"GOMP_SPINCOUNT": "1000"}],
    "GOMP_SPINCOUNT=10000": [{"GOMP_SPINCOUNT": "10000"}],
    "one thread": [SLEEP | {"OMP_NUM_THREADS": "1"}],
    "two runs, one thread each": [SLEEP | {"OMP_NUM_THREADS": "1"}] * 2,
}
_START_S = 120.0
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def _killed_with_us() -> None:
    """Runs in a child before its program: the kernel kills it, also a stopped one, when the bench ends in any way (``PR_SET_PDEATHSIG``)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Run:
    """A training that writes a time stamp for each step, stopped until its turn."""

    def __init__(self, log: Path, setting: dict[str, str], student: Path) -> None:
        own = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
        kept = {k: v for k, v in DEFAULTS.items() if k == "GLIBC_TUNABLES"}
        self._log = log
        log.touch()
        command = [sys.executable, "-m", "tests.bench.threads", "--train", str(log), "--student", str(student)]
        self._process = subprocess.Popen(command, env={**own, **kept, **setting}, preexec_fn=_killed_with_us, **QUIET)
        deadline = time.monotonic() + _START_S
        while len(self.stamps()) < 4:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.end()
                sys.exit(f"error: {' '.join(command)} did not train")
            time.sleep(0.2)
        self.hold()

    def stamps(self) -> list[float]:
        return [float(line) for line in self._log.read_text(encoding="ascii").split("\n")[:-1]]

    def hold(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def turn(runs: list[Run], seconds: float) -> float:
    """Seconds of the machine for a step of any of these runs, which work for so long."""
    for run in runs:
        run.go_on()
    begun = time.monotonic()
    time.sleep(seconds)
    ended = time.monotonic()
    for run in runs:
        run.hold()
    rate = 0.0
    for run in runs:
        mine = [at for at in run.stamps() if begun <= at <= ended]
        rate += (len(mine) - 1) / (mine[-1] - mine[0])
    return 1 / rate


@contextlib.contextmanager
def busy(wanted: bool) -> Iterator[None]:
    """One process that never sleeps, where wanted."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=_killed_with_us) if wanted else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def train_without_end(log: Path, student: Path) -> None:
    """Until killed: rows of the example's shape, over and over."""
    shape = "example"
    train_step.SHAPES[shape] = dataclasses.replace(train_step.SHAPES[shape], steps=100_000, passes=2_000)
    with log.open("a", buffering=1, encoding="ascii") as handle:
        train_step.measure("ours logit", shape, student, lambda at: print(at, file=handle))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--student", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.train is not None:
        train_without_end(given.train, given.student)
        return
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        student = Path(folder) / "student"
        train_step.write_student(student)
        runs: dict[str, list[Run]] = {}
        for name, settings in SETTINGS.items():
            for i, setting in enumerate(settings):
                run = Run(Path(folder) / f"{len(runs)}-{i}.log", setting, student)
                opened.callback(run.end)
                runs.setdefault(name, []).append(run)
        found: dict[str, list[list[float]]] = {name: [] for name in SETTINGS}
        for beside in (False, True):
            with busy(beside):
                turns = [[turn(mine, given.seconds) for mine in runs.values()] for _ in range(given.turns)]
            for name, mine in zip(SETTINGS, zip(*turns, strict=True), strict=True):
                found[name].append(list(mine))
    print("| setting | idle: seconds a step | beside one busy process |\n|---|---|---|")
    for name, measured in found.items():
        cells = [f"{statistics.median(m):.2f} ({min(m):.2f} to {max(m):.2f})" for m in measured]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
