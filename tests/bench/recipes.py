"""Other recipes for one arm against today's, on *dev*, over seeds: quality, time, and whether the loss jumped.

``python -m tests.bench.recipes "batch_size=16 learning_rate=0.002" "learning_rate=0.0005"``: changes of ``finetune.common``, each a recipe; today's is the
first. Trains from what the last cycle prepared; held-out rows are not touched. Each run is appended to ``--out``, so a bench that was stopped goes on there.

The interval of a difference resamples rows and seeds, both paired. A loss that jumps: the mean over ten steps, largest rise over the lowest before it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from redistill.config import load_params
from redistill.dev_score import dev_score, f1
from redistill.progress import Progress
from tasks import trial
from tasks.edge import ARTIFACTS, STATE, keep_freed_memory
from tasks.finetune import train_arm

TODAY = "today's"


def changes(text: str) -> dict[str, Any]:
    """``batch_size=16 learning_rate=0.002`` as a dictionary."""
    return {key: json.loads(value) for key, value in (part.split("=", 1) for part in text.split())}


def run(arm: str, recipe: str, seed: int) -> dict[str, Any]:
    """Train once and score on dev."""
    params = load_params()
    common = replace(params.finetune.common, **changes("" if recipe == TODAY else recipe), seed=seed, save_every_steps=10**9)
    begun, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model, tokenizer, _ = train_arm(
            arm, ARTIFACTS / "base", work, params.data, params.finetune.method, common, params.finetune.arms[arm]
        )
        seconds, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
        logs = [json.loads(line) for line in (work / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    found = dev_score(model, tokenizer, trial.dev_rows(), params.data, params.generate.max_tokens)
    loss = [entry["loss"] for entry in logs if "loss" in entry]
    return {
        "recipe": recipe,
        "seed": seed,
        "counts": found.counts_N3.tolist(),
        "exact": found.exact_match,
        "seconds": seconds,
        "cpu_s": cpu_s,
        "jump": rise(loss),
    }


def rise(loss: list[float]) -> float:
    """The largest of each value's distance above the lowest before it; 0 where the loss only falls."""
    lowest = np.minimum.accumulate(loss) if loss else np.zeros(1)
    return float(max(0.0, (np.asarray(loss or [0.0]) - lowest).max()))


def difference(ours: np.ndarray, theirs: np.ndarray, resamples: int = 2000) -> tuple[float, float, float]:
    """Of the mean F1 over seeds, with its 95 % interval. Both are seeds × rows × (true positives, false positives, false negatives)."""
    draw = np.random.default_rng(7)

    def of(seeds: np.ndarray, rows: np.ndarray) -> float:
        return statistics.mean(f1(ours[s][rows]) - f1(theirs[s][rows]) for s in seeds)

    seeds, rows = np.arange(ours.shape[0]), np.arange(ours.shape[1])
    drawn = [of(draw.choice(seeds, len(seeds)), draw.choice(rows, len(rows))) for _ in range(resamples)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return of(seeds, rows), float(low), float(high)


def table(runs: list[dict[str, Any]], recipes: list[str], seeds: int) -> None:
    print(
        "| recipe | F1 | of each seed | exact match | seconds | CPU s | loss jump | F1 against today's |\n|---|---|---|---|---|---|---|---|"
    )
    by = {(r["recipe"], r["seed"]): r for r in runs}
    counts = {name: np.array([by[name, s]["counts"] for s in range(seeds)]) for name in recipes}
    for name in recipes:
        rows = [by[name, s] for s in range(seeds)]
        scores = [f1(c) for c in counts[name]]
        mean = {key: statistics.mean(r[key] for r in rows) for key in ("exact", "seconds", "cpu_s")}
        gap = "" if name == TODAY else "{:+.3f} ({:+.3f} to {:+.3f})".format(*difference(counts[name], counts[TODAY]))
        each = ", ".join(f"{s:.3f}" for s in scores)
        jump = max(r["jump"] for r in rows)
        print(
            f"| {name} | {statistics.mean(scores):.3f} | {each} | {mean['exact']:.3f} | {mean['seconds']:.0f} | {mean['cpu_s']:.0f} | {jump:.2f} | {gap} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*")
    parser.add_argument("--arm", default="kd")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=STATE / "recipes.jsonl")
    given = parser.parse_args()
    keep_freed_memory()
    recipes = [TODAY, *given.recipes]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    runs = [json.loads(line) for line in given.out.read_text(encoding="utf-8").splitlines()] if given.out.is_file() else []
    runs = [r for r in runs if r["arm"] == given.arm]
    progress = Progress("recipes", len(recipes) * given.seeds, "runs")
    # Seed by seed, so that a bench that is stopped early has compared all recipes.
    for seed in range(given.seeds):
        for recipe in recipes:
            if not any(r["recipe"] == recipe and r["seed"] == seed for r in runs):
                runs.append({"arm": given.arm, **run(given.arm, recipe, seed)})
                with given.out.open("a", encoding="utf-8") as handle:
                    handle.write(json.dumps(runs[-1]) + "\n")
            progress(seed * len(recipes) + recipes.index(recipe) + 1)
    table(runs, recipes, given.seeds)


if __name__ == "__main__":
    main()
