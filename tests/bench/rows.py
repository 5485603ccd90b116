"""Rows against seconds and memory: ``prepare``, ``validate``, the reading of training rows, and what the report reads.

``python -m tests.bench.rows [--rows N …] [--part NAME …] [--write]``. Each measurement is a process of its own in a folder of its own, on rows of a
seeded grammar (``tests.bench.row_source``). Memory is the peak of the process and its workers together, in which shared pages count once. ``--write``
puts the table into docs/benchmarks.md, beside the lines of parts that were measured before on the same machine. No model runs: stages that run one are extrapolated from their rates.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil

from tests.bench import row_stages
from tests.bench.__main__ import machine
from tests.bench.tables import Table, rewritten

ROOT = Path(__file__).resolve().parents[2]
DOC = ROOT / "docs" / "benchmarks.md"
_EVERY_S = 0.25
_REST = 50
"""After a look, so many times as long without one."""


def peak_of(process: subprocess.Popen[str]) -> int:
    """Bytes at the peak of a process and its children, sampled until it ends; looking takes at most a fiftieth of the time."""
    peak = 0
    while process.poll() is None:
        total, begin = 0, time.perf_counter()
        try:
            top = psutil.Process(process.pid)
            for each in [top, *top.children(recursive=True)]:
                total += each.memory_full_info().pss
        except psutil.Error:
            pass
        peak = max(peak, total)
        # Shared pages are counted by walking all of them: of a gigabyte that takes long enough to slow down what is measured.
        time.sleep(max(_EVERY_S, _REST * (time.perf_counter() - begin)))
    return peak


def measured(part: str, count: int) -> tuple[float, float, int]:
    """Seconds, seconds of all cores, and bytes at the peak; what the part imports is included."""
    with tempfile.TemporaryDirectory(prefix="redistill-rows-") as folder:
        row_stages.SETUPS[part](Path(folder), count)
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.bench import row_stages; row_stages.run({part!r})",
            ],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        peak = peak_of(process)
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
        if process.returncode:
            sys.exit(f"error: {part} with {count} rows ended with {process.returncode}")
    found = json.loads(lines[-1])
    return found["seconds"], found["cpu_s"], max(peak, found["peak"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--part", nargs="+", choices=sorted(row_stages.SETUPS), default=list(row_stages.SETUPS))
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    options = parser.parse_args()
    rows = []
    for part in options.part:
        for count in options.rows:
            seconds, cpu_s, peak = measured(part, count)
            rows.append([part, f"{count:,}", f"{seconds:,.1f}", f"{cpu_s:,.1f}", f"{1e6 * seconds / count:,.0f}", f"{peak / 2**20:,.0f}"])
            print(*rows[-1], sep="\t", flush=True)
    table = Table(f"On {machine()}", ["part", "rows", "seconds", "seconds of both cores", "µs a row", "peak, MiB"], rows)
    print(table.markdown())
    if options.write:
        text = DOC.read_text(encoding="utf-8")
        DOC.write_text(rewritten(text, [beside(table, text)], "rows"), encoding="utf-8")


def beside(table: Table, text: str) -> Table:
    """The table with the lines of the page that were measured before, on the same machine, of parts or counts that were left out this time."""
    measured = {tuple(row[:2]): row for row in [*(table.of_page(text, "rows") or []), *table.rows]}
    parts = list(row_stages.SETUPS)
    return replace(table, rows=sorted(measured.values(), key=lambda row: (parts.index(row[0]), int(row[1].replace(",", "")))))


if __name__ == "__main__":
    main()
