"""How often all gates of the bank example together promote a system that is truly equal to its teacher, or truly worse.

Through ``redistill.promotion.decide.decide`` itself, with the gates of ``params.yaml``, on the slices and labels of the example's own held-out rows. Only
who is right on which row, and which counterfactual pair flips, is drawn. Over several nights, new held-out rows are drawn from the same ones.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from redistill.evaluation.probes.counterfactual import read_pairs
from redistill.evaluation.timing import Times, Timing
from redistill.evaluation.types import Cost, EvalReport, Fairness, Flip, Outcome
from redistill.params import Params, load_params
from redistill.promotion.alpha_spending import left_after, level_of, waits_for
from redistill.promotion.decide import decide
from redistill.promotion.evidence import BenchmarkResult, Evidence
from redistill.promotion.types import Audit, Look, PromotionDecision
from redistill.statistics.shares import share

ROOT = Path(__file__).resolve().parents[2]
EXACT, RECALL, FLIPS = 0.624, 0.875, 0.222
"""Of the example's teacher: exact match, labels found (of the two critical labels), pairs flipped. From a run on open held-out rows, as is what follows."""
LIKE_DISCORDANCE = 0.5
"""Of what separates two systems of one recipe from their teacher, the part that is each one's own, assumed: they learned the same completions."""
NIGHTS = 7


@dataclass(frozen=True)
class Kind:
    """A system: on which share of the rows exactly one of it and its teacher is right, and on which share of the pairs exactly one of both flips."""

    name: str
    discordance: float
    flips: float


CASCADE, ALONE = Kind("cascade", 0.10, 0.138), Kind("student alone", 0.25, 0.224)


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


class Draw:
    """A system and its teacher on the example's rows, and on ``more`` rows like them.

    The system is truly worse by ``loss``: so much less exact match, so many more flips. ``live``: there is a champion, which is the reference too, as good
    as the teacher. ``recall`` is that of an equal system's labels.
    """

    def __init__(
        self, rng: np.random.Generator, kind: Kind, loss: float, *, live: bool = False, recall: float = RECALL, more: int = 0
    ) -> None:
        _, rows, messages = example()
        extra = rng.integers(0, len(rows), more)
        self.rows = [*rows, *(replace(rows[i], id=f"{rows[i].id}-{k}") for k, i in enumerate(extra))]
        n, m = len(self.rows), len(messages)
        teacher, luck = rng.random(n) < EXACT, rng.random(n)
        flips, flip_luck = rng.random(m) < FLIPS, rng.random(m)
        self.right = {"teacher": teacher, "student": _against(teacher, luck, EXACT, kind.discordance, loss)}
        self.flips = {"teacher": flips, "student": _against(flips, flip_luck, FLIPS, kind.flips, -loss)}
        if live:
            luck = np.where(rng.random(n) < LIKE_DISCORDANCE, rng.random(n), luck)
            flip_luck = np.where(rng.random(m) < LIKE_DISCORDANCE, rng.random(m), flip_luck)
            self.right["champion"] = _against(teacher, luck, EXACT, kind.discordance, 0.0)
            self.flips["champion"] = _against(flips, flip_luck, FLIPS, kind.flips, 0.0)
        self.labels = {who: rng.random(n) < (recall - EXACT) / (1 - EXACT) for who in self.right}

    def evidence(self, n: int) -> Evidence:
        """The evidence on the first ``n`` rows, of which people see none."""
        params, _, _ = example()
        sizes = {"teacher": 2.0}
        measured = {
            who: _measured(who, self.rows[:n], right[:n], self.labels[who][:n], self.flips[who], sizes.get(who, 1.0))
            for who, right in self.right.items()
        }
        found = Evidence(
            measured["student"],
            measured["teacher"],
            champion=measured.get("champion"),
            reference=measured.get("champion"),
            audit=Audit(1146, n, 0, 0, 0, 0, "rows"),
            grammar=params.data.grammar,
            timing=_TIMING,
        )
        return replace(found, on_monitor=replace(found, split="monitor"))


_TIMING = Timing("hf", Times("", 14, (0.2,) * 24), Times("", 14, (0.4,) * 24))
"""A student that is clearly faster: what is simulated here are the gates that chance decides."""


def _against(base: np.ndarray, luck: np.ndarray, rate: float, discordance: float, loss: float) -> np.ndarray:
    """What is true of a system that has ``loss`` less of it than its teacher, and differs from it on ``discordance`` of the rows."""
    return np.where(base, luck >= (discordance + loss) / 2 / rate, luck < (discordance - loss) / 2 / (1 - rate))


def _measured(who: str, rows: list[Row], right: np.ndarray, labels: np.ndarray, flipped: np.ndarray, size: float) -> BenchmarkResult:
    """A report and its outcomes; on a row that is not exactly right the labels are right with the chance that gives the recall."""
    _, _, messages = example()
    outcomes = []
    for row, exact, labelled in zip(rows, right.tolist(), labels.tolist(), strict=True):
        response = row.right if exact else row.labels_right if labelled else row.wrong
        outcomes.append(Outcome(row.id, row.id, row.id, row.slice, row.right, response, exact, int(exact), int(not exact), int(not exact)))
    flips = tuple(Flip(m, "any", ("x", "y"), ("x", "y"), m) for m, one in zip(messages, flipped, strict=True) if one)
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


def shares(kind: Kind, loss: float, level: float, decisions: int, *, live: bool, seed: int, recall: float = RECALL) -> dict[str, float]:
    """The share of decisions in which each group passed, and in which all did."""
    params, rows, _ = example()
    rng = np.random.default_rng(seed)
    made = [decide(Draw(rng, kind, loss, live=live, recall=recall).evidence(len(rows)), params.promote, level) for _ in range(decisions)]
    passed = [passes(decision) for decision in made]
    return {name: sum(p[name] for p in passed) / decisions for name in passed[0]}


CASES = (
    ("equal cascade", CASCADE, 0.0, False, 0.025, RECALL),
    ("cascade 2 points worse", CASCADE, 0.02, False, 0.025, RECALL),
    ("cascade 5 points worse", CASCADE, 0.05, False, 0.025, RECALL),
    ("equal cascade, with a live champion and reference that are equal too", CASCADE, 0.0, True, 0.025, RECALL),
    ("equal student alone", ALONE, 0.0, False, 0.025, RECALL),
    ("student alone, 2 points better", ALONE, -0.02, False, 0.025, RECALL),
    ("student alone, 5 points worse", ALONE, 0.05, False, 0.025, RECALL),
    ("equal student alone, at level 0.005", ALONE, 0.0, False, 0.005, RECALL),
)
"""Name, kind, loss, whether a champion and a reference are live, level, recall."""
HEAD = ["true system, first look (level 0.025)", "promoted", *GROUPS]


def table(decisions: int) -> list[list[str]]:
    """A row a case: the share promoted, and the share that each gate let pass by itself."""
    rows = []
    for seed, (name, kind, loss, live, level, recall) in enumerate(CASES, start=5):
        found = shares(kind, loss, level, decisions, live=live, seed=seed, recall=recall)
        rows.append([name, *(f"{100 * found[g]:.1f} %" if g in found else "none" for g in ("all", *GROUPS))])
    return rows


def week(rng: np.random.Generator, kind: Kind, loss: float, a_night: int) -> list[bool]:
    """Whether an unchanged system is live after each of eight nights, if ``a_night`` labelled rows are added after each."""
    params, rows, _ = example()
    promote, draw = params.promote, Draw(rng, kind, loss, more=NIGHTS * a_night)
    left, looks, live = promote.alpha_per_heldout, list[Look](), False
    result = []
    for night in range(NIGHTS + 1):
        n = len(rows) + night * a_night
        asked = live or (night and not a_night) or waits_for(looks, "system", n) is not None
        if not asked and (level := level_of(left, promote)):
            live = decide(draw.evidence(n), promote, level).verdict == "promote"
            left = left_after(left, level, 1, 0 if live else None)
            looks.append(
                Look("h", 1, "k", "c", level, level, live, "promote" if live else "hold", "", "", "", left, "decision", "system", n)
            )
        result.append(live)
    return result


WEEKS = tuple((kind, loss, a_night) for kind in (CASCADE, ALONE) for loss in (0.0, 0.05) for a_night in (0, 20, 40, 80))
WEEK_HEAD = ["true system", "labelled rows added a night", "live after the first night", "live after a week"]


def weeks(draws: int) -> list[list[str]]:
    """How often an unchanged system goes live within a week of nights."""
    rows = []
    for seed, (kind, loss, a_night) in enumerate(WEEKS, start=41):
        rng = np.random.default_rng(seed)
        live = np.array([week(rng, kind, loss, a_night) for _ in range(draws)]).mean(0)
        name = f"{'equal' if loss == 0 else f'{100 * loss:g} points worse'}: {kind.name}"
        rows.append([name, str(a_night), f"{100 * live[0]:.0f} %", f"{100 * live[-1]:.0f} %"])
    return rows


if __name__ == "__main__":
    for line in (HEAD, *table(100), WEEK_HEAD, *weeks(100)):
        print(" | ".join(line))
