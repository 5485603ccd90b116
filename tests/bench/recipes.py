"""Recipes and arms against each other on *dev*, over seeds: quality, time, and whether the loss jumped.

``python -m tests.bench.recipes "arm=kd" "arm=kd batch_size=8" "arm=sft" "arm=sft prompt_weight=1"``: each argument is a recipe, an arm of ``params.yaml`` and
changes of that arm or of ``finetune.common``. The others are compared with the first. Trains from what the last cycle prepared; held-out rows are not
touched. ``arm=teacher`` is the teacher's own tuning, with changes of ``tune_teacher``. Each run is appended to ``--out``, so a bench that was stopped goes on there.

The interval of a difference resamples rows and seeds, both paired. A loss that jumps: the mean over ten steps, largest rise over the lowest before it.
``--together`` runs so many at once, each with its share of the cores: less time for all of them, more for each. By default as a cycle does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import fields, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from redistill.distillation.arm_params import ArmParams
from redistill.distillation.params import FinetuneCommonParams
from redistill.evaluation.dev_score import dev_score, f1, score_of
from redistill.io.digests import canonical_digest, tree_digest
from redistill.models import weights_source
from redistill.models.tokenizers import load_tokenizer
from redistill.params import Params, load_params
from redistill.runtime.cpu import keep_freed_memory, usable_cores, use_threads
from redistill.runtime.progress import Progress
from tasks.paths import ARTIFACTS, STATE
from tasks.training import variant
from tasks.training.arm import train_arm
from tasks.training.teacher import train_teacher

LINEAR = "linear"
"""A linear classifier on the gold rows, as a recipe: what the same labels give without any language model. It has no seed."""

TEACHER = "teacher"


def parsed(recipe: str, params: Params) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """``arm=kd batch_size=8 alpha=1`` as the arm's name, changes of ``finetune.common``, and changes of the arm."""
    given = dict(part.partition("=")[::2] for part in recipe.split())
    arm = given.pop("arm", params.promote.arm)
    values = {key: yaml.safe_load(value) for key, value in given.items()}
    if arm == TEACHER:
        replace(params.tune_teacher, **values)
        return arm, values, {}
    shared, own = ({f.name for f in fields(kind)} for kind in (FinetuneCommonParams, ArmParams))
    if arm not in params.finetune.arms:
        sys.exit(f"error: {recipe!r}: there is no arm {arm}; the arms are {', '.join(params.finetune.arms)}")
    if unknown := sorted(set(values) - shared - own):
        sys.exit(f"error: {recipe!r}: neither an arm nor finetune.common has {', '.join(unknown)}")
    return arm, {k: v for k, v in values.items() if k in shared}, {k: v for k, v in values.items() if k not in shared}


def made_from(params: Params) -> str:
    """Digest of all that runs are made from besides recipe and seed: runs of another teacher or other data are not compared with these."""
    paths = [ARTIFACTS / name for name in ("base", "prompts", "validated", "soft_targets")]
    return canonical_digest([str(params.data), str(params.finetune), *(tree_digest(p) for p in paths if p.exists())])[:16]


def run(recipe: str, seed: int, threads: int) -> dict[str, Any]:
    """Train once with so many threads and score on dev."""
    keep_freed_memory()
    params = load_params()
    if recipe == LINEAR:
        return linear(params, seed)
    arm, shared, own = parsed(recipe, params)
    if arm == TEACHER:
        return teacher(recipe, params, shared, seed, threads)
    common = replace(params.finetune.common, **{"threads": threads, **shared}, seed=seed, save_every_steps=10**9)
    begun, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model, tokenizer, _ = train_arm(
            arm, ARTIFACTS / "base", work, params.data, params.finetune.method, common, replace(params.finetune.arms[arm], **own)
        )
        seconds, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
        logs = [json.loads(line) for line in (work / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return measured(recipe, seed, model, tokenizer, params, logs, seconds, cpu_s)


def teacher(recipe: str, params: Params, changed: dict[str, Any], seed: int, threads: int) -> dict[str, Any]:
    use_threads(threads)
    raw = weights_source.resolve(params.teacher.model, params.teacher.revision)
    tokenizer = load_tokenizer(raw)
    begun, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as work:
        model = train_teacher(raw, tokenizer, params.data, replace(params.tune_teacher, **changed, seed=seed), Path(work))
        seconds, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
        logs = [json.loads(line) for line in (Path(work) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return measured(recipe, seed, model, tokenizer, params, logs, seconds, cpu_s)


def measured(
    recipe: str, seed: int, model: Any, tokenizer: Any, params: Params, logs: list[dict[str, Any]], seconds: float, cpu_s: float
) -> dict[str, Any]:
    found = dev_score(model, tokenizer, variant.dev_rows(), params.data, params.generate.max_tokens)
    loss = [entry["loss"] for entry in logs if "loss" in entry]
    scores = {"counts": found.counts_N3.tolist(), "exact": found.exact_match, "jump": rise(loss)}
    return {"recipe": recipe, "seed": seed, **scores, "seconds": seconds, "cpu_s": cpu_s}


def linear(params: Params, seed: int) -> dict[str, Any]:
    from redistill.data.types import Prompt
    from redistill.evaluation.probes.linear_baseline import fit
    from redistill.io.parquet import read_records

    begun, dev = time.perf_counter(), variant.dev_rows()
    predict = fit(read_records(ARTIFACTS / "prompts" / "train.parquet", Prompt), params.data.grammar, params.benchmark.seed)
    found = score_of(dev, predict([p.text for p in dev]), params.data)
    seconds = time.perf_counter() - begun
    told = {"counts": found.counts_N3.tolist(), "exact": found.exact_match, "seconds": seconds, "cpu_s": seconds, "jump": 0.0}
    return {"recipe": LINEAR, "seed": seed, **told}


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


def table(runs: list[dict[str, Any]], recipes: list[str], seeds: list[int]) -> None:
    print(
        "| recipe | F1 | of each seed | exact match | seconds | CPU s | loss jump | F1 against the first |\n|---|---|---|---|---|---|---|---|"
    )
    by = {(r["recipe"], r["seed"]): r for r in runs}
    counts = {name: np.array([by[name, s]["counts"] for s in seeds]) for name in recipes}
    for name in recipes:
        rows = [by[name, s] for s in seeds]
        scores = [f1(c) for c in counts[name]]
        mean = {key: statistics.mean(r[key] for r in rows) for key in ("exact", "seconds", "cpu_s")}
        gap = "" if name == recipes[0] else "{:+.3f} ({:+.3f} to {:+.3f})".format(*difference(counts[name], counts[recipes[0]]))
        each = ", ".join(f"{s:.3f}" for s in scores)
        jump = max(r["jump"] for r in rows)
        print(
            f"| {name} | {statistics.mean(scores):.3f} | {each} | {mean['exact']:.3f} | {mean['seconds']:.0f} | {mean['cpu_s']:.0f} | {jump:.2f} | {gap} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    cores, threads = usable_cores(), load_params().finetune.common.threads
    parser.add_argument("--together", type=int, default=max(1, cores // (threads or cores)))
    parser.add_argument("--out", type=Path, default=STATE / "recipes.jsonl")
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    params = load_params()
    for recipe in given.recipes:
        parsed("" if recipe == LINEAR else recipe, params)
    source = made_from(params)
    lines = given.out.read_text(encoding="utf-8").splitlines() if given.out.is_file() else []
    runs = [found for line in lines if (found := json.loads(line)).get("made_from") == source]
    done = {(r["recipe"], r["seed"]) for r in runs}
    # Seed by seed, so that a bench that is stopped early has compared all recipes.
    wanted = [(recipe, seed) for seed in range(given.seeds) for recipe in given.recipes if (recipe, seed) not in done]
    progress = Progress("recipes", len(wanted), "runs")
    share = max(1, cores // given.together)
    with ProcessPoolExecutor(given.together, get_context("spawn"), max_tasks_per_child=1) as pool:
        try:
            for count, found in enumerate(as_completed([pool.submit(run, *one, share) for one in wanted]), 1):
                runs.append({**found.result(), "made_from": source})
                with given.out.open("a", encoding="utf-8") as handle:
                    handle.write(json.dumps(runs[-1]) + "\n")
                progress(count)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    table(runs, given.recipes, list(range(given.seeds)))


if __name__ == "__main__":
    main()
