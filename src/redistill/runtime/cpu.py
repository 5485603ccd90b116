"""Cores, threads and memory of this process."""

from __future__ import annotations

import ctypes
import os
import sys


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks: returning and faulting in hundreds of megabytes a step costs a quarter of training.

    And to keep them where they are found again: transformers loads weights in threads, and what those free would stay in arenas that training never looks
    into. Source: mallopt(3), M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX and M_ARENA_MAX.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            for option, value in ((-1, -1), (-2, 256 << 20), (-4, 0), (-8, 1)):
                libc.mallopt(option, value)


def use_threads(threads: int | None) -> None:
    """Use this many CPU threads in this process; None means OMP_NUM_THREADS, and without that PyTorch's default.

    PyTorch read that variable when it was imported, which a fork does not do again.
    """
    stated = os.environ.get("OMP_NUM_THREADS", "")
    threads = threads or (int(stated) if stated.isdigit() else None)
    if threads:
        import torch

        torch.set_num_threads(threads)


def usable_cores() -> int:
    """The cores that this process may run on. In a container or under ``taskset`` they can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
