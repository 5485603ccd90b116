"""What it costs that OpenMP threads spin while they wait: a training step on an idle machine, and beside one process that is always busy.

``python -m tests.bench.openmp``: the ``logit`` step of ``tests.bench.train_step`` at the example's shape, in a process of its own for each setting, several
times over in turn, medians. PyTorch's OpenMP runtime on Linux is libgomp, which reads its settings when it is loaded. Wants the machine for itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.train_step import write_student

BUSY = "import time\nend = time.monotonic() + 300\nwhile time.monotonic() < end:\n    pass"
"""Ends by itself where the bench is killed."""
SETTINGS: dict[str, dict[str, str]] = {
    "libgomp's default": {},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "GOMP_SPINCOUNT=0": {"GOMP_SPINCOUNT": "0"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
}


def step_s(setting: dict[str, str], student: Path) -> float:
    """Seconds of one training step in a fresh process with this setting, and no other of its kind."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    command = [sys.executable, "-m", "tests.bench.train_step", "--case", "ours logit", "--shape", "example", "--student", str(student)]
    done = subprocess.run(command, env={**environment, **setting}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)}: {done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["step_s"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        student = Path(folder)
        write_student(student)
        print("| setting | idle: seconds a step | beside one busy process |\n|---|---|---|")
        runs: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in SETTINGS}
        for _ in range(repeats):
            for name, setting in SETTINGS.items():
                runs[name][0].append(step_s(setting, student))
                busy = subprocess.Popen([sys.executable, "-c", BUSY])
                try:
                    runs[name][1].append(step_s(setting, student))
                finally:
                    busy.kill()
                    busy.wait()
        for name, (idle, beside) in runs.items():
            print(f"| {name} | {statistics.median(idle):.2f} | {statistics.median(beside):.2f} |", flush=True)


if __name__ == "__main__":
    main()
