"""Peak memory and time of a distillation loss, forward and backward: ours against plain PyTorch, TRL and Liger, in one run.

``python -m tests.bench.loss_memory``: each case in a process of its own (peak memory never goes down within one), from hidden states of
supervised tokens and two heads to gradients for the student's hidden states and head, in float32. What the inputs and the gradients
themselves take is counted for everybody.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from redistill.runtime.memory import PeakMemory

WIDTH, TOP_K = 576, 32
VOCABULARIES = (49_152, 151_936)
CASES = ("plain kl_div", "trl gkd", "trl distillation", "liger jsd", "ours dense", "ours sparse")
OURS_ONLY = 4_096
"""Tokens at which only ours are measured: there one float32 tensor of tokens × 151,936 is 2.5 GB, and dense losses hold several."""


def loss_of(case: str, given: dict[str, Any]) -> Callable[[], Any]:
    """What is timed: the loss of these tokens, from hidden states."""
    import torch
    from torch.nn import functional

    hidden, head, theirs, their_head, labels = (given[k] for k in ("hidden", "head", "theirs", "their_head", "labels"))
    n = len(hidden)
    ones = torch.ones(n)
    if case == "plain kl_div":
        return lambda: functional.kl_div(
            functional.log_softmax(hidden @ head.T, -1), functional.softmax(theirs @ their_head.T, -1), reduction="batchmean"
        )
    if case == "trl gkd":
        from trl.experimental.gkd import GKDTrainer

        return lambda: GKDTrainer.generalized_jsd_loss(
            hidden @ head.T, theirs @ their_head.T, labels=labels, beta=0.0, num_items_in_batch=n
        )
    if case == "trl distillation":
        from trl.trainer.distillation_trainer import _chunked_divergence_loss

        mask = torch.ones(1, n)
        return lambda: _chunked_divergence_loss(hidden[None], theirs[None], head, their_head, mask, 0.0, num_items_in_batch=n)[0]
    if case == "liger jsd":
        from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

        # Compiling needs a C++ compiler, which not every machine has.
        fused = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.0, compiled=False)
        return lambda: fused(hidden, head, theirs, their_head, labels)
    if case == "ours dense":
        from redistill.distillation.losses.divergences import DenseTargets, TeacherStates, dense_loss
        from redistill.distillation.losses.workspace import Workspace

        space = Workspace()
        return lambda: (
            dense_loss(hidden, head, TeacherStates(theirs, their_head), DenseTargets(labels, ones, 0 * ones), workspace=space).total / n
        )
    from redistill.distillation.losses.fused_head import distill_loss
    from redistill.distillation.losses.types import TokenTargets
    from redistill.distillation.losses.workspace import Workspace

    space = Workspace()
    targets = TokenTargets(labels, given["top_ids"], given["top_p"], ones, 0 * ones)
    return lambda: distill_loss(hidden, head, targets, workspace=space).total / n


def measure(case: str, tokens: int, vocabulary: int, repeats: int) -> dict[str, float]:
    """Growth of the peak over what was resident before, in MB, and the median of the seconds."""
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        given = {
            "hidden": torch.randn(tokens, WIDTH).requires_grad_(),
            "head": (0.02 * torch.randn(vocabulary, WIDTH)).requires_grad_(),
            "theirs": torch.randn(tokens, WIDTH),
            "their_head": 0.02 * torch.randn(vocabulary, WIDTH),
            "labels": torch.randint(vocabulary, (tokens,)),
        }
        # A teacher's list, as a file would give it; the sparse case has no teacher in memory.
        given["top_p"] = torch.rand(tokens, TOP_K).softmax(-1) * 0.9
        # Distinct ids by steps, not by permutations: what those leave behind would count as resident before.
        given["top_ids"] = (torch.randint(vocabulary, (tokens, 1)) + 97 * torch.arange(TOP_K)) % vocabulary
    if case == "ours sparse":
        given.update(theirs=None, their_head=None)
    loss = loss_of(case, given)
    memory = PeakMemory()
    seconds = []
    for _ in range(repeats):
        given["hidden"].grad = given["head"].grad = None
        start = time.perf_counter()
        loss().backward()
        seconds.append(time.perf_counter() - start)
    return {"peak_mb": peak_mb(memory), "seconds": statistics.median(seconds)}


def peak_mb(memory: PeakMemory) -> float:
    if (grown := memory.grown_bytes()) is None:
        raise SystemExit("this system does not tell the peak of a process; run the bench on Linux")
    return grown / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--vocabulary", type=int)
    given = parser.parse_args()
    if given.case:
        print(json.dumps(measure(given.case, given.tokens, given.vocabulary, given.repeats)))
        return
    print(
        f"torch {version('torch')}, trl {version('trl')}, liger-kernel {version('liger-kernel')}, {platform.machine()}; float32, width {WIDTH}, top-k {TOP_K}, {given.repeats} repeats\n"
    )
    print("| V | tokens | case | peak, MB | seconds | peak ÷ plain | seconds ÷ plain |\n|---|---|---|---|---|---|---|")
    for vocabulary in VOCABULARIES:
        rows = [(case, given.tokens) for case in CASES] + [(case, OURS_ONLY) for case in CASES if case.startswith("ours")]
        plain: dict[str, float] = {}
        for case, tokens in rows:
            own = [sys.executable, "-m", "tests.bench.loss_memory", "--repeats", str(given.repeats), "--case", case]
            own += ["--tokens", str(tokens), "--vocabulary", str(vocabulary)]
            done = subprocess.run(own, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            plain = plain or found
            ratios = [f"{found[k] / plain[k]:.2f}" if tokens == given.tokens else "" for k in ("peak_mb", "seconds")]
            print(
                f"| {vocabulary:,} | {tokens:,} | {case} | {found['peak_mb']:,.0f} | {found['seconds']:.2f} | {' | '.join(ratios)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
