"""Gold, sft and kd over several seeds on *dev*, with paired intervals: what distillation added, and whether it was noise.

``python -m tests.bench.arms [--json] [--seeds 3]``. Trains every arm anew from what the last cycle prepared; the held-out rows are
not touched. Every seed trains every arm, so it takes as long as the fine-tuning stages of a cycle, times the seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from redistill.artifacts import read_records
from redistill.config import Params, load_params
from redistill.dev_score import dev_score, f1
from redistill.evaluation import items_of
from redistill.linear import fit
from redistill.records import Prompt
from tasks.edge import ARTIFACTS, keep_freed_memory
from tasks.finetune import train_arm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only the JSON object")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    keep_freed_memory()
    params = load_params()
    dev = read_records(ARTIFACTS / "prompts" / "dev.parquet", Prompt)
    counts: dict[str, list[np.ndarray]] = {}
    for seed in range(given.seeds):
        for arm in params.finetune.arms:
            start = time.perf_counter()
            counts.setdefault(arm, []).append(one(arm, seed, params, dev))
            print(f"[bench arms] seed {seed} {arm}: F1 {f1(counts[arm][-1]):.3f} ({time.perf_counter() - start:.0f} s)", flush=True)
    train_rows = read_records(ARTIFACTS / "prompts" / "train.parquet", Prompt)
    lines = fit(train_rows, params.data.grammar, 7)([p.text for p in dev])
    counts["linear"] = [counted(dev, lines, params)]
    result = {
        "n": len(dev),
        "seeds": given.seeds,
        "f1": {a: round(statistics.mean(f1(c) for c in rows), 4) for a, rows in counts.items()},
        "f1_by_seed": {a: [round(f1(c), 4) for c in rows] for a, rows in counts.items()},
        "paired": {
            f"{a} - {b}": paired(counts[a], counts[b]) for a, b in (("sft", "gold"), ("kd", "sft"), ("kd", "gold"), ("kd", "linear"))
        },
    }
    if not given.json:
        for name, row in result["paired"].items():
            print(
                f"{name}: {row['difference']:+.3f} F1, 95 % interval {row['low']:+.3f} to {row['high']:+.3f} (n = {len(dev)}, {given.seeds} seeds)"
            )
    print(json.dumps(result))


def one(arm: str, seed: int, params: Params, dev: list[Prompt]) -> np.ndarray:
    common = replace(params.finetune.common, seed=seed, save_every_steps=10**9)
    with tempfile.TemporaryDirectory() as work:
        model, tokenizer, _ = train_arm(
            arm, ARTIFACTS / "base", Path(work), params.data, params.finetune.method, common, params.finetune.arms[arm]
        )
    return dev_score(model, tokenizer, dev, params.data, params.benchmark.max_tokens).counts_N3


def counted(prompts: list[Prompt], lines: list[str], params: Params) -> np.ndarray:
    """(true positives, false positives, false negatives) of each row."""
    grammar = params.data.grammar
    rows = []
    for prompt, line in zip(prompts, lines, strict=True):
        wanted, found = items_of(grammar, prompt.label or "") or frozenset(), items_of(grammar, line) or frozenset()
        rows.append([len(wanted & found), len(found - wanted), len(wanted - found)])
    return np.array(rows)


def paired(ours: list[np.ndarray], theirs: list[np.ndarray], resamples: int = 2000) -> dict[str, float]:
    """Difference of the mean F1 over seeds, with a bootstrap over rows that both share."""
    rng = np.random.default_rng(7)
    n = len(ours[0])

    def difference(rows: np.ndarray) -> float:
        return statistics.mean(f1(c[rows]) for c in ours) - statistics.mean(f1(c[rows]) for c in theirs)

    drawn = [difference(rng.integers(0, n, n)) for _ in range(resamples)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"difference": round(difference(np.arange(n)), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


if __name__ == "__main__":
    main()
