"""The monitor of live traffic: how often it gives a false alarm in a month without drift, and after how many windows it sees a drift.

``python -m tests.bench.drift [--write]``. By simulation with fixed seeds, on the messages of the bank example, through the measures and the verdict of the monitor;
``--write`` puts the tables into docs/serving.md. Each seed draws a new reference, because all windows of a month share theirs.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from redistill.serving.drift.measures import judged
from redistill.serving.drift.params import DriftParams
from redistill.serving.drift.prompts import distinct
from redistill.serving.drift.types import Live, Reference, Verdict, Window
from redistill.serving.drift.verdict import next_verdict
from redistill.statistics.shares import share
from tests.bench.tables import Table, rewritten

ROOT = Path(__file__).resolve().parents[2]
DOC, MARK = ROOT / "docs" / "serving.md", "drift"
FILES = ("labelled", "calibration", "monitor", "heldout")
MONTH, LONGEST, REFERENCE, REQUESTS = 180, 16, 270, 200
"""Windows of a month (six a day), windows that are waited for a drift, reference rows, and requests of a window."""
QUIET_SEEDS, DRIFT_SEEDS = 12, 5
DEFERRED, FAILED, SHADOWED, DISAGREEMENT, PROMISED = 0.3, 0.01, 0.5, 0.03, 0.05
PARAMS, NEAR = DriftParams(), 0.5
FIRST, REPEATED = 199, 0.02
"""Permutations of a first pass, and the p-value above which nothing can be raised and 999 are not drawn."""
_SAVINGS = "And how do I open a savings pot for my daughter?"


@dataclass(frozen=True, slots=True)
class Row:
    text: str
    slice: str
    label: str
    score: float


Change = Callable[[list[Row], random.Random], list[Row]]


def rows() -> list[Row]:
    """Every labelled message of the example, without repeats; the score is made up, and does not depend on the message."""
    draw, seen = random.Random(11), dict[str, Row]()
    for name in FILES:
        for line in (ROOT / "data" / "bank_triage" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            label = str(row.get("label") or "other").split(";")[0]
            seen.setdefault(row["text"], Row(row["text"], row["slice"], label, draw.gauss(0.0, 1.0)))
    texts = set(distinct(list(seen), NEAR))
    return [row for row in seen.values() if row.text in texts]


def none(window: list[Row], draw: random.Random) -> list[Row]:
    return window


def new_topic(share_of: float) -> Change:
    """A share of the requests also asks for something that no reference row asks for; the student is less sure of them."""

    def changed(window: list[Row], draw: random.Random) -> list[Row]:
        return [replace(r, text=f"{r.text} {_SAVINGS}", score=r.score - 1.0) if draw.random() < share_of else r for r in window]

    return changed


def one_channel(share_of: float) -> Change:
    """So many of the requests that came by another channel are replaced by e-mails."""

    def changed(window: list[Row], draw: random.Random) -> list[Row]:
        mails = [r for r in POPULATION if r.slice == "e-mail"]
        return [draw.choice(mails) if r.slice != "e-mail" and draw.random() < share_of else r for r in window]

    return changed


def longer(share_of: float) -> Change:
    """A share of the messages is sent together with another one."""

    def changed(window: list[Row], draw: random.Random) -> list[Row]:
        return [replace(r, text=f"{r.text} {draw.choice(POPULATION).text}") if draw.random() < share_of else r for r in window]

    return changed


POPULATION = rows()
CASES: dict[str, Change] = {
    **{f"a new topic in {s:.0%} of the requests".replace("%", " %"): new_topic(s) for s in (0.05, 0.1, 0.2, 0.4)},
    **{f"{s:.0%} of the other channels' requests come by e-mail".replace("%", " %"): one_channel(s) for s in (0.1, 0.25, 0.5)},
    **{f"{s:.0%} of the messages are two in one".replace("%", " %"): longer(s) for s in (0.1, 0.25, 0.5)},
}


def month(seed: int, change: Change, windows: int) -> Iterator[Verdict]:
    """The verdict after each window, with a reference of its own. Windows are drawn from what the reference left."""
    draw, numbers = random.Random(seed), np.random.default_rng(seed)
    shuffled = draw.sample(POPULATION, len(POPULATION))
    reference, rest = _reference(shuffled[:REFERENCE], numbers), shuffled[REFERENCE:]
    past: list[Window] = []
    for number in range(windows):
        live = _live(change(draw.sample(rest, REQUESTS), draw), numbers, number)
        window = _judged(reference, live, seed * 1000 + number, None if change is none else NEAR)
        past = [*past, replace(window, verdict=next_verdict((*past, window), PARAMS))][-20:]
        yield past[-1].verdict


def _judged(reference: Reference, live: Live, seed: int, near_duplicate: float | None) -> Window:
    """As the monitor does it. A window whose p-values are all large after few permutations raises nothing after many."""
    rules = {"promised": PROMISED, "near_duplicate": near_duplicate, "seed": seed}
    first = judged(reference, live, PARAMS, **rules, permutations=FIRST)
    if min((m.p_value for m in first.measures if m.p_value is not None), default=1.0) > REPEATED:
        return first
    return judged(reference, live, PARAMS, **rules)


def _reference(sample: list[Row], numbers: np.random.Generator) -> Reference:
    n = len(sample)
    failed = int(numbers.binomial(n, FAILED))
    return Reference(
        tuple(r.text for r in sample), tuple(r.slice for r in sample), tuple(r.label for r in sample), tuple(r.score for r in sample),
        int(numbers.binomial(n - failed, DEFERRED)), failed,
    )  # fmt: skip


def _live(sample: list[Row], numbers: np.random.Generator, number: int) -> Live:
    n = len(sample)
    failed = int(numbers.binomial(n, FAILED))
    compared = (numbers.random(int(n * SHADOWED)) < DISAGREEMENT).astype(float).tolist()
    return Live(
        float(number), number + 1.0, n, tuple(r.text for r in sample), tuple(r.label for r in sample), "", tuple(r.slice for r in sample),
        tuple(r.score for r in sample), n, int(numbers.binomial(n - failed, DEFERRED)), failed, tuple(compared), 1.0, {"student": n},
    )  # fmt: skip


def first_at(verdicts: list[Verdict], kind: Verdict) -> int | None:
    """The number of the first window with a verdict, counted from 1; acting counts as a warning too."""
    kinds = ("warn", "act") if kind == "warn" else ("act",)
    return next((i for i, verdict in enumerate(verdicts, 1) if verdict in kinds), None)


def quiet(seeds: int = QUIET_SEEDS, windows: int = MONTH) -> Table:
    """Months without drift: how many had a warning, and how many were acted on."""
    months = [list(month(seed, none, windows)) for seed in range(seeds)]
    cells = []
    for kind in ("warn", "act"):
        hits = sum(first_at(verdicts, kind) is not None for verdicts in months)
        span = share(hits, seeds)
        cells.append(f"{hits} of {seeds} ({100 * span.interval.low:.0f} to {100 * span.interval.high:.0f} %)")
    return Table(
        f"No drift: {seeds} months of {windows} windows, {REQUESTS} requests each, {REFERENCE} reference rows",
        ["months with a warning", "months with an action"],
        [cells],
    )


def delays(seeds: int = DRIFT_SEEDS) -> Table:
    """Drifts that begin with the first window: the windows until the warning and until the action."""
    made = []
    for number, (name, change) in enumerate(CASES.items(), 1):
        runs = []
        for seed in range(seeds):
            verdicts: list[Verdict] = []
            for verdict in month(1000 * number + seed, change, LONGEST):
                verdicts.append(verdict)
                if verdict == "act":
                    break
            runs.append(verdicts)
        made.append([name, *(_delay([first_at(v, kind) for v in runs]) for kind in ("warn", "act"))])
    return Table(
        f"Drift from the first window on: {seeds} runs of at most {LONGEST} windows",
        ["drift", "warned: runs, windows until then (median, most)", "acted: runs, windows until then (median, most)"],
        made,
    )


def _delay(first: list[int | None]) -> str:
    seen = [n for n in first if n is not None]
    return f"{len(seen)} of {len(first)}" + (f", {np.median(seen):.0f}, {max(seen)}" if seen else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the tables into docs/serving.md")
    arguments, begin = parser.parse_args(), time.monotonic()
    tables = [quiet(), delays()]
    print("\n\n".join(table.markdown() for table in tables))
    print(f"\n{time.monotonic() - begin:.0f} s")
    if arguments.write:
        DOC.write_text(rewritten(DOC.read_text(encoding="utf-8"), tables, MARK), encoding="utf-8")


if __name__ == "__main__":
    main()
