"""What a student is worth that TRL's GKDTrainer trains, beside ours: the bank example's rows, tuned teacher and untrained student, one run each.

``python -m tests.bench.quality [--tokens N]``, after a cycle (``make demo``) has prepared them. All see the same rows, supervised tokens, batch, number of steps and
learning rate, with embeddings frozen where params freeze them, and half of the tokens that params train on. Our arms weigh text and probabilities by the
promoted arm's ``alpha``, TRL's trainer knows no text loss. TRL groups rows by length, which saves padding, as our own order does. Scored greedily on dev, on which nothing is decided; the interval is over rows, one seed.
Minutes are those of training: ``logit`` needs one pass of the teacher over the rows before, in the stage ``score``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from redistill.distillation.methods.all_methods import all_methods
from redistill.models import checkpoints
from redistill.models.tokenizers import load_tokenizer
from redistill.params import load_params
from redistill.runtime.cpu import keep_freed_memory, use_threads
from redistill.runtime.precision import dtype_name, resolved
from tasks.paths import ARTIFACTS
from tasks.training import variant
from tasks.training.arm import rows_of, train_arm

CASES = ("trl gkd", "ours logit", "ours online")


def measure(case: str, tokens: int) -> dict[str, float]:
    """Train one student, and score it on dev."""
    from redistill.distillation.training.examples import Examples, Supervision
    from redistill.distillation.training.recipe import steps_for
    from redistill.evaluation.dev_score import dev_score
    from tests.bench.trl_gkd import train_trl

    keep_freed_memory()
    params = load_params()
    use_threads(params.finetune.common.threads)
    name, base = params.promote.arm, ARTIFACTS / "base"
    arm, common = params.finetune.arms[name], replace(params.finetune.common, tokens=tokens, save_every_steps=10**9)
    with tempfile.TemporaryDirectory() as folder:
        work, start = Path(folder), time.perf_counter()
        if case == "trl gkd":
            tokenizer, model = load_tokenizer(base), checkpoints.load_model(base)
            rows = rows_of(params.data, arm, tokenizer)
            # The tokens that our arm is supervised on, prompts of the teacher's rows among them where params say so.
            examples = Examples(rows, {}, Supervision(1.0, common.supervise, teacher_in_memory=True))
            steps = steps_for(tokens, examples, common.batch_size)
            teacher = checkpoints.load_model(ARTIFACTS / "teacher", dtype_name())
            warmup = round(common.warmup_share * steps)
            train_trl(
                model,
                teacher,
                tokenizer,
                list(examples),
                common.batch_size,
                steps,
                work,
                common.learning_rate,
                warmup,
                common.freeze_embeddings,
                sampling="group_by_length",
            )
        else:
            method = all_methods()[case.removeprefix("ours ")]()
            model, tokenizer, _ = train_arm(name, base, work, params.data, method, common, replace(arm, method=None))
        seconds = time.perf_counter() - start
    found = dev_score(model, tokenizer, variant.dev_rows(), params.data, params.generate.max_tokens)
    low, high = found.interval("f1")
    return {"seconds": seconds, "f1": found.f1, "low": low, "high": high, "exact": found.exact_match, "rows": len(found.exact_N)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, help="what each student is fed; half of finetune.common.tokens if left out")
    parser.add_argument("--case", choices=CASES)
    given = parser.parse_args()
    tokens = given.tokens or load_params().finetune.common.tokens // 2
    if not (ARTIFACTS / "soft_targets").is_dir():
        sys.exit("error: artifacts/soft_targets is missing: this bench trains on what a cycle prepared; run `make demo` first")
    if given.case:
        print(json.dumps(measure(given.case, tokens)))
        return
    print(f"torch {version('torch')}, trl {version('trl')}; {resolved()}, {tokens:,} tokens, one seed, the bank example's dev split\n")
    print("| trained by | F1 | 95 % interval | exact match | minutes |\n|---|---|---|---|---|")
    for case in CASES:
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.quality", "--case", case, "--tokens", str(tokens)],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"error: {case} ended with {done.returncode}; the lines above show the reason")
        found = json.loads(done.stdout.splitlines()[-1])
        interval = f"{found['low']:.3f} to {found['high']:.3f}"
        print(f"| {case} | {found['f1']:.3f} | {interval} | {found['exact']:.3f} | {found['seconds'] / 60:.1f} |", flush=True)


if __name__ == "__main__":
    main()
