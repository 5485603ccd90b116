"""The edge of every stage: read params once, hand the function its slices, end with one clear line.

``python -m tasks.generate`` runs a function whose parameters are typed slices of ``Params``. Which slice is found by
type, so the function's signature is the list of what the stage depends on; a contract test holds ``dvc.yaml`` to it.
"""

from __future__ import annotations

import ctypes
import os
import sys
import typing
from collections.abc import Callable
from pathlib import Path

from redistill import config, environment
from redistill.errors import ConfigError, RedistillError
from tasks.warm import die_with_parent

ARTIFACTS = Path("artifacts")
STATE = Path(".redistill")
LOCK = Path("teacher.lock.json")
LOCKED_FROM = {LOCK.name: "tune_teacher"}
"""The stage whose output a lock locks: an edge that stands in no dvc.yaml, since a lock is written between two stages."""

SECTIONS: dict[type, str] = {
    config.DataParams: "data",
    config.IntakeParams: "intake",
    config.TeacherParams: "teacher",
    config.TuneTeacherParams: "tune_teacher",
    config.GenerateParams: "generate",
    config.ValidateParams: "validate",
    config.ScoreParams: "score",
    config.StudentParams: "student",
    config.MethodParams: "finetune.method",
    config.FinetuneCommonParams: "finetune.common",
    config.ArmParams: "finetune.arms.{arm}",
    config.BenchmarkParams: "benchmark",
}


def slices_of(function: Callable[..., None]) -> dict[str, str]:
    """Argument name → params key, for the arguments of a stage function that are slices."""
    hints = typing.get_type_hints(function)
    return {name: SECTIONS[kind] for name, kind in hints.items() if kind in SECTIONS}


def run(function: Callable[..., None], *names: str) -> None:
    """Run a stage function from the command line; ``names`` are its positional arguments such as the arm.

    Exit codes are DESIGN.md's; a traceback is shown only where ``REDISTILL_DEBUG`` is set.
    """
    environment.silence()
    die_with_parent()
    keep_freed_memory()
    try:
        given = sys.argv[1:]
        if len(given) != len(names):
            raise ConfigError(f"usage: python -m {_command()} {' '.join(n.upper() for n in names)}".rstrip())
        values: dict[str, object] = dict(zip(names, given, strict=True))
        params = config.load_params()
        for argument, key in slices_of(function).items():
            values[argument] = _pick(params, key.format(**values))
        function(**values)
    except RedistillError as error:
        if os.environ.get("REDISTILL_DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _command() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else "tasks.STAGE"


def _pick(params: object, key: str) -> object:
    for part in key.split("."):
        params = params.get(part) if isinstance(params, dict) else getattr(params, part)
        if params is None:
            raise ConfigError(f"{key} is missing in params.yaml")
    return params


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
    """Use this many CPU threads in this process; None keeps PyTorch's default."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def usable_cores() -> int:
    """The cores that this process may run on. In a container or under ``taskset`` they can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work_directory(stage: str, *identity: object) -> Path:
    """Where a stage (``NAME`` or ``NAME-ARM``) works until it is done.

    It is named by what goes in and by the code that works on it, so that a resume finds its own and no other's.
    """
    from redistill.imports import code_digest, folders
    from redistill.records import canonical_digest

    code = code_digest(f"tasks.{stage.partition('-')[0]}", folders("redistill", "tasks"))
    return STATE / "work" / f"{stage}-{canonical_digest([code, *(str(i) for i in identity)])[:16]}"


def run_on_checkpoint(function: Callable[..., None]) -> None:
    """``--checkpoint DIR --out PATH --who NAME``: the same measurement for weights that no stage made."""
    import argparse

    parser = argparse.ArgumentParser(prog=f"python -m {_command()}", description="Measure any checkpoint on the held-out rows.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--who", default="champion")
    given = parser.parse_args()
    environment.silence()
    die_with_parent()
    keep_freed_memory()
    try:
        params = config.load_params()
        slices = {argument: _pick(params, key) for argument, key in slices_of(function).items()}
        function(given.who, given.checkpoint, given.out, **slices)
    except RedistillError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
