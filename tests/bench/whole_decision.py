"""How often all gates of the bank example together promote a student that is truly equal to its teacher, or truly worse.

Through ``redistill.promotion.decide.decide`` itself, with the gates of ``params.yaml``, on the slices and labels of the example's own held-out rows. Only
who is right on which row, and which counterfactual pair flips, is drawn.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from redistill.evaluation.probes.counterfactual import read_pairs
from redistill.evaluation.timing import Times, Timing
from redistill.evaluation.types import Cost, EvalReport, Fairness, Flip, Outcome
from redistill.params import Params, load_params
from redistill.promotion.decide import decide
from redistill.promotion.evidence import BenchmarkResult, Evidence
from redistill.promotion.types import Audit, PromotionDecision
from redistill.statistics.shares import share

ROOT = Path(__file__).resolve().parents[2]
EXACT, DISCORDANCE, RECALL, FLIPS = 0.46, 0.19, 0.84, 0.24
"""Of the example's teacher: exact match, rows on which exactly one of teacher and student is right, labels found, pairs flipped.

By its sample report and the outcomes behind it. The report does not tell the recall of single labels, so that is its F1 of all labels.
"""
LIKE_DISCORDANCE = 0.15
"""Rows on which exactly one of two students of one recipe is right, assumed: champion and candidate have learned the same completions."""


@dataclass(frozen=True)
class Row:
    """A held-out row, and what a model says that is right, that only has the labels right, and that has the labels wrong."""

    id: str
    slice: str
    right: str
    labels_right: str
    wrong: str


@cache
def example() -> tuple[Params, tuple[Row, ...], tuple[str, ...]]:
    """Params, held-out rows and the messages of the counterfactual pairs."""
    params = load_params(ROOT / "params.yaml")
    lines = (ROOT / "data" / "bank_triage" / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    rows = []
    for row in map(json.loads, lines):
        labels, *others = row["label"].split("; ")
        rows.append(
            Row(row["id"], row["slice"], row["label"], labels if others else f"{labels}; urgent", "pin" if labels == "other" else "other")
        )
    pairs = read_pairs(str(params.benchmark.fairness), ROOT)
    return params, tuple(rows), tuple(p.message for p in pairs)


def drawn(rng: np.random.Generator, loss: float, *, live: bool, recall: float = RECALL) -> Evidence:
    """Evidence on a student that is truly worse than its teacher by ``loss``: so much less exact match, so many more flips.

    ``live``: there is a champion, which is the reference too, as good as the teacher. ``recall`` is that of an equal student's labels.
    """
    params, rows, _ = example()
    n = len(rows)
    teacher, luck = rng.random(n) < EXACT, rng.random(n)
    measured = {
        "teacher": _measured(rng, "teacher", teacher, FLIPS, recall, 2.0),
        "student": _measured(rng, "student", _against(teacher, luck, loss), FLIPS + loss, recall, 1.0),
    }
    if live:
        # Two students of one recipe are often wrong together: on this share of rows, they differ from the teacher by the same luck.
        own = rng.random(n) < LIKE_DISCORDANCE / _independent_discordance()
        measured["champion"] = _measured(rng, "champion", _against(teacher, np.where(own, rng.random(n), luck), 0.0), FLIPS, recall, 1.0)
    return Evidence(
        measured["student"],
        measured["teacher"],
        champion=measured.get("champion"),
        reference=measured.get("champion"),
        audit=Audit(859, n, 0, 0, 0, 0, "rows"),
        grammar=params.data.grammar,
        timing=_TIMING,
    )


_TIMING = Timing("hf", Times("", 14, (0.2,) * 24), Times("", 14, (0.4,) * 24))
"""A student that is clearly faster: what is simulated here are the gates that chance decides."""


def _turned(loss: float) -> tuple[float, float]:
    """The chance that a student is wrong where its teacher is right, and right where that is wrong."""
    return (DISCORDANCE + loss) / 2 / EXACT, (DISCORDANCE - loss) / 2 / (1 - EXACT)


def _against(teacher: np.ndarray, luck: np.ndarray, loss: float) -> np.ndarray:
    """Which rows a student has right that loses ``loss`` against the teacher, and disagrees with it on ``DISCORDANCE`` of the rows."""
    turned_wrong, turned_right = _turned(loss)
    return np.where(teacher, luck >= turned_wrong, luck < turned_right)


def _independent_discordance() -> float:
    """On how many rows exactly one of two equal students would be right whose differences from the teacher are independent."""
    wrong, right = _turned(0.0)
    return 2 * (EXACT * wrong * (1 - wrong) + (1 - EXACT) * right * (1 - right))


def _measured(rng: np.random.Generator, who: str, right: np.ndarray, flip_rate: float, recall: float, size: float) -> BenchmarkResult:
    """A report and its outcomes; on a row that is not exactly right the labels are right with the chance that gives ``recall``."""
    _, rows, messages = example()
    labels_right = rng.random(right.size) < (recall - EXACT) / (1 - EXACT)
    outcomes = []
    for row, exact, labels in zip(rows, right.tolist(), labels_right.tolist(), strict=True):
        response = row.right if exact else row.labels_right if labels else row.wrong
        outcomes.append(Outcome(row.id, row.id, row.id, row.slice, row.right, response, exact, int(exact), int(not exact), int(not exact)))
    flips = tuple(
        Flip(m, "any", ("x", "y"), ("x", "y"), m)
        for m, flipped in zip(messages, rng.random(len(messages)) < flip_rate, strict=True)
        if flipped
    )
    fairness = Fairness("pairs", len(messages), share(len(flips), len(messages)), {}, flips, dict(Counter(messages)))
    score, cost = share(int(right.sum()), right.size), Cost(int(60e6 * size), 1, int(1e9 * size))
    report = EvalReport(who, who, "heldout", "template", right.size, score, score, {}, {}, cost, 0, "hf", fairness=fairness)
    return report, outcomes


GROUPS = ("teacher", "champion", "reference", "slices", "critical_labels", "fairness")


def group(gate: str) -> str | None:
    """The gate of ``promote.gates`` that a judged gate belongs to; None for those that are no chance."""
    for prefix, name in (("non_inferior_to_", ""), ("slice_", "slices"), ("recall_", "critical_labels"), ("fairness", "fairness")):
        if gate.startswith(prefix):
            return name or gate.removeprefix(prefix)
    return None


def passes(decision: PromotionDecision) -> dict[str, bool]:
    """Whether each group of gates passed as a whole, and ``all`` for the verdict."""
    found: dict[str, bool] = {"all": decision.verdict == "promote"}
    for gate in decision.gates:
        if (name := group(gate.name)) is not None:
            found[name] = found.get(name, True) and gate.passed
    return found


def shares(loss: float, level: float, decisions: int, *, live: bool, seed: int, recall: float = RECALL) -> dict[str, float]:
    """The share of decisions in which each group passed, and in which all did."""
    params, _, _ = example()
    rng = np.random.default_rng(seed)
    told = [passes(decide(drawn(rng, loss, live=live, recall=recall), params.promote, level)) for _ in range(decisions)]
    return {name: sum(t[name] for t in told) / decisions for name in told[0]}


CASES = (
    ("equal", 0.0, False, 0.005, RECALL),
    ("2 points worse", 0.02, False, 0.005, RECALL),
    ("5 points worse", 0.05, False, 0.005, RECALL),
    ("equal, at the whole level 0.05", 0.0, False, 0.05, RECALL),
    ("equal, with a live champion and reference that are equal too", 0.0, True, 0.005, RECALL),
    ("equal, both find 95 % of the labels", 0.0, False, 0.005, 0.95),
)
"""Name, loss, whether a champion and a reference are live, level, recall."""
HEAD = ["true student, first look of ten (level 0.005)", "promoted", *GROUPS]


def table(decisions: int) -> list[list[str]]:
    """A row a case: the share promoted, and the share that each gate let pass by itself."""
    rows = []
    for seed, (name, loss, live, level, recall) in enumerate(CASES, start=5):
        found = shares(loss, level, decisions, live=live, seed=seed, recall=recall)
        rows.append([name, *(f"{100 * found[g]:.1f} %" if g in found else "none" for g in ("all", *GROUPS))])
    return rows
