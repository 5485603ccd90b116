"""``redistill.runtime.memory``: what a child of a large process allocates is its own, however large its parent was."""

from __future__ import annotations

import subprocess
import sys

import pytest

from redistill.runtime.memory import PeakMemory

MB = 10**6
ALLOCATES = """
import sys
from redistill.runtime.memory import PeakMemory
peak = PeakMemory()
held = bytearray(b"x" * 300_000_000)
print(peak.grown_bytes())
del held
again = PeakMemory()
print(again.grown_bytes())
"""

pytestmark = pytest.mark.skipif(PeakMemory().grown_bytes() is None, reason="this system does not report the peak memory of a process")


@pytest.mark.parametrize("parent_mb", [0, 600])
def test_a_child_of_a_large_process_reports_what_it_allocates(parent_mb: int) -> None:
    """300 MB, and the copy that fills them; it was 0 where the parent had held 600 MB when it started the child."""
    parent = f"""
import os, sys
held = bytearray(b"x" * {parent_mb} * 1_000_000)
os.execv(sys.executable, [sys.executable, "-c", {ALLOCATES!r}])
"""
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    first, second = (int(line) for line in done.stdout.split())
    assert 295 * MB < first < 640 * MB
    assert second < 20 * MB, "a new watch starts from what is held now, not from an earlier peak"


def test_what_was_held_before_does_not_count() -> None:
    before = bytearray(b"x" * (100 * MB))
    peak = PeakMemory()
    during = bytearray(b"x" * (50 * MB))
    grown = peak.grown_bytes()
    assert len(before) == 2 * len(during) and grown is not None
    assert 45 * MB < grown < 110 * MB
