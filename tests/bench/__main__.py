"""``python -m tests.bench`` (``make bench``): the engine's benches one after the other, and their tables into docs/benchmarks.md.

``quality`` trains on what a cycle has prepared, the others need no project. ``arms``, ``generate`` and ``gates`` are started by themselves.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from redistill.io.atomic import replacing

PAGE = Path("docs/benchmarks.md")
BENCHES = ("conformance", "loss_memory", "soft_targets", "train_step", "quality")


def machine() -> str:
    """The processor, the widest instructions that torch uses on it, its cores and the memory."""
    import torch

    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = re.search(r"model name\s*:\s*(.+)", text)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{found[1].strip() if found else platform.machine()} ({instructions}), {os.cpu_count()} cores, {memory:.0f} GiB"


def table_of(name: str) -> str:
    """Run one bench; its lines are shown as they come, and kept.

    Raises:
        SystemExit: it ended with an error.
    """
    process = subprocess.Popen([sys.executable, "-m", f"tests.bench.{name}"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    if process.wait():
        sys.exit(f"error: tests.bench.{name} ended with {process.returncode}; the page is as it was")
    return "".join(lines).strip()


def written(page: str, name: str, text: str) -> str:
    """The page with what stands between a bench's two marks replaced.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if begin not in page or end not in page:
        raise ValueError(f"{PAGE} has no place marked {begin}")
    head, rest = page.split(begin)
    return f"{head}{begin}\n{text}\n{end}{rest.split(end)[1]}"


def main() -> None:
    wanted = sys.argv[1:] or BENCHES
    unknown = sorted(set(wanted) - set(BENCHES))
    if unknown:
        sys.exit(f"error: no bench {unknown[0]}; there are {', '.join(BENCHES)}")
    for name in wanted:
        written(PAGE.read_text(encoding="utf-8"), name, "")  # before an hour is spent on what has no place
    for name in wanted:
        print(f"== {name}", flush=True)
        text = f"On {machine()}: {table_of(name)}"
        page = written(PAGE.read_text(encoding="utf-8"), name, text)
        with replacing(PAGE) as temporary:
            temporary.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
