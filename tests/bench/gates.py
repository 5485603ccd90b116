"""What the promotion gate does to students that are truly inferior, against the rule of thumb "at least 97 % of the teacher".

``python -m tests.bench.gates [--json] [--write]``. By simulation with a fixed seed, through the very functions that decide in a cycle; ``--write``
puts the tables and the plot into docs/gates.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from redistill.promotion.alpha_spending import left_after, level_of
from redistill.promotion.gates.non_inferiority import judged_difference
from redistill.promotion.params import PromoteParams
from redistill.promotion.retest import Retest, compared
from redistill.statistics.betting import PairedScores
from redistill.statistics.paired_counts import PairedCounts, power, score_test
from tests.bench import gate_workflows, whole_decision
from tests.bench.tables import Table, rewritten

DOC = Path(__file__).resolve().parents[2] / "docs" / "gates.md"
PLOT = DOC.with_name("gates-power.svg")
RETENTION, TEACHER, DISCORDANCE, N = 0.97, 0.60, 0.20, 500
STUDENTS, NIGHTS, SETS, DECISIONS, WEEKS = 1000, 100, 1000, 600, 400
PARAMS = PromoteParams(alpha_per_heldout=0.05, looks_per_heldout=2)


def counts(
    rng: np.random.Generator, n: int, loss: float, students: int, right: np.ndarray | int | None = None
) -> Iterator[tuple[PairedCounts, int]]:
    """Students that truly lose ``loss`` against a teacher of 60 %, disagreeing with it on 20 % of the rows; ``right``: rows the teacher has right."""
    if right is None:
        right = rng.binomial(n, TEACHER, students)
    only_teacher = rng.binomial(right, (DISCORDANCE + loss) / 2 / TEACHER, students)
    only_student = rng.binomial(n - right, (DISCORDANCE - loss) / 2 / (1 - TEACHER), students)
    for b, c, r in zip(only_student, only_teacher, np.broadcast_to(right, students), strict=True):
        yield PairedCounts(n, int(b), int(c)), int(r)


def compared_counts(found: PairedCounts, params: PromoteParams) -> Retest:
    """A champion's re-test from its counts, through the functions that decide in a cycle."""
    margin, alpha = params.teacher_gate.margin, params.alpha_per_heldout
    p_value = score_test(found, margin)
    gates = [judged_difference("", "", found, margin, level, p_value, params.power) for level in (alpha, alpha / 2)]
    return compared(gates[0], gates[1])


def point_rule(found: PairedCounts, right: int) -> bool:
    return (right + found.only_candidate - found.only_reference) >= RETENTION * right


def one_decision() -> Table:
    """Of 1,000 students, how many are promoted; margin 1.8 points is 3 % of this teacher, so both rules draw the line at the same place."""
    rng, margin, rows = np.random.default_rng(1), (1 - RETENTION) * TEACHER, []
    for retention in (1.0, 0.985, 0.97, 0.96, 0.95, 0.93, 0.90):
        loss = (1 - retention) * TEACHER
        seen = list(counts(rng, N, loss, STUDENTS))
        promoted = [
            sum(point_rule(c, r) for c, r in seen),
            sum(score_test(c, margin) <= PARAMS.alpha_per_heldout for c, _ in seen),
            sum(score_test(c, 0.05) <= PARAMS.alpha_per_heldout for c, _ in seen),
            sum(score_test(c, 0.05) <= PARAMS.alpha_per_heldout / PARAMS.looks_per_heldout for c, _ in seen),
        ]
        inferior = [
            "at the limit of the first two" if retention == RETENTION else "inferior by the first two" if retention < RETENTION else "good"
        ]
        rows.append([f"{100 * retention:g} %", f"{-100 * loss:z.1f}", *inferior, *(str(p) for p in promoted)])
    head = ["true retention", "true difference, points", "is", "promoted by “retention ≥ 97 %”", "ours, margin 1.8, level 0.05", "ours, margin 5, level 0.05", "ours, margin 5, first look (0.025)"]  # fmt: skip
    return Table(f"Of {STUDENTS:,} students, promoted in one decision (n = {N}, teacher 60 %, discordance 20 %)", head, rows)


def a_hundred_nights() -> Table:
    """A new inferior student every night on one held-out set: the chance that at least one gets through."""
    rng, rows = np.random.default_rng(2), []
    for loss in (0.05, 0.06, 0.08):
        ever = np.zeros(4, dtype=int)
        for _ in range(SETS):
            right = int(rng.binomial(N, TEACHER))
            nights = list(counts(rng, N, loss, NIGHTS, right))
            p_values = [score_test(c, 0.05) for c, _ in nights]
            ever += [
                any(point_rule(c, r) for c, r in nights),
                any(p <= 0.05 for p in p_values),
                any(walk(p_values)),
                p_values[0] <= 0.05,
            ]
        rows.append([f"{-100 * loss:g}", *(f"{100 * e / SETS:.1f} %" for e in (ever[3], ever[0], ever[1], ever[2]))])
    head = ["true difference of every student, points", "one night at 0.05", "100 nights, “retention ≥ 97 %”", "100 nights, each at 0.05", "100 nights, ours (0.05 over all of them)"]  # fmt: skip
    return Table(f"Chance that an inferior student is ever promoted (margin 5 points, n = {N}, {SETS:,} held-out sets)", head, rows)


def walk(p_values: Sequence[float]) -> list[bool]:
    """Which of these questions, asked one after the other, end in a promotion, as far as the level allows them."""
    left, promoted = PARAMS.alpha_per_heldout, []
    for p in p_values:
        level = level_of(left, PARAMS)
        if level == 0.0:
            break
        promoted.append(p <= level)
        left = left_after(left, level, 1, 0 if promoted[-1] else None)
    return promoted


SIZES = (100, 200, 400, 500, 800, 1500, 3000)


def power_against_n() -> Table:
    """How often an equal student, and one two points worse, is promoted at the first look; simulated, with the formula beside it."""
    rng, rows = np.random.default_rng(3), []
    level = PARAMS.alpha_per_heldout / PARAMS.looks_per_heldout
    for n in SIZES:
        cells = []
        for loss in (0.0, 0.02):
            for alpha in (0.05, level):
                passed = sum(score_test(c, 0.05) <= alpha for c, _ in counts(rng, n, loss, STUDENTS))
                cells.append(f"{100 * passed / STUDENTS:.0f} % ({100 * power(n, DISCORDANCE, -loss, 0.05, alpha):.0f} %)")
        rows.append([f"{n:,}", *cells])
    head = [
        "held-out rows",
        "equal, level 0.05",
        "equal, first look (0.025)",
        "2 points worse, level 0.05",
        "2 points worse, first look (0.025)",
    ]
    return Table("Power: chance of promotion, simulated (by formula), margin 5 points", head, rows)


def discoveries() -> Table:
    """A night's student is truly equal to the teacher with this chance, else six points worse: what the ledger allows over 100 nights."""
    rng, rows = np.random.default_rng(4), []
    for n in (500, 1500):
        for share in (0.2, 0.5, 0.9):
            looks, good, wrong = [], [], 0
            for _ in range(300):
                right = int(rng.binomial(n, TEACHER))
                equal = rng.random(NIGHTS) < share
                p_values = [score_test(next(counts(rng, n, 0.0 if e else 0.06, 1, right))[0], 0.05) for e in equal]
                promoted = walk(p_values)
                wrong += sum(p and not e for p, e in zip(promoted, equal, strict=False))
                looks.append(len(promoted))
                good.append(sum(promoted))
            rows.append([f"{n:,}", f"{100 * share:g} %", f"{np.mean(looks):.1f}", f"{np.mean(good):.1f}", f"{wrong / 300:.3f}"])
    head = ["held-out rows", "students that are equal", "looks until used up (at most 100)", "promotions", "wrong promotions a set"]
    return Table("Looks and promotions on one held-out set over 100 nights", head, rows)


def draw(path: Path) -> None:
    """Power against n as curves, by formula."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "redistill"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    sizes = np.unique(np.geomspace(60, 4000, 80).astype(int))
    for loss, style in ((0.0, "-"), (0.02, "--")):
        for alpha, colour in ((0.05, "#86409a"), (0.025, "#0e5f7a")):
            label = f"{'equal' if loss == 0 else '2 points worse'}, level {alpha:g}"
            axes.plot(sizes, [100 * power(int(n), DISCORDANCE, -loss, 0.05, alpha) for n in sizes], style, color=colour, label=label)
    axes.set(
        xscale="log", xlabel="held-out rows", ylabel="chance of promotion, %", title="Margin 5 points, discordance 20 %", ylim=(0, 100)
    )
    axes.set_xticks([100, 200, 500, 1000, 2000, 4000], labels=["100", "200", "500", "1,000", "2,000", "4,000"])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight")


def retests() -> Table:
    """What the nightly re-test does to a live champion, on a held-out set that is new to it."""
    rng, rows = np.random.default_rng(6), []
    for n in (200, 500, 1500):
        for loss in (0.0, 0.02, 0.05, 0.10):
            seen = [compared_counts(c, PARAMS) for c, _ in counts(rng, n, loss, STUDENTS)]
            passed, at_once = sum(r.gate.passed for r in seen), sum(r.inferior for r in seen)
            lost = sum(r.after(PARAMS.hold_nights, PARAMS) == "inferior" for r in seen)
            told = (passed, STUDENTS - passed - lost, at_once, lost)
            rows.append([f"{n:,}", f"{-100 * loss:z.0f}", *(f"{100 * x / STUDENTS:.1f} %" for x in told)])
    head = ["held-out rows", "true difference, points", "holds", "stays on hold and live", "loses its traffic at once", f"within {PARAMS.hold_nights} nights"]  # fmt: skip
    return Table("A live champion on a new held-out set (margin 5 points, discordance 20 %)", head, rows)


def graded() -> Table:
    """Betting beside a t-test: students that lose exactly the margin, by being wholly wrong on one row in twenty, and equal ones."""
    from scipy.stats import ttest_1samp

    rng, margin, rows = np.random.default_rng(7), 0.05, []
    for n in (100, 200, 300, 500):
        at_margin = np.where(rng.random((STUDENTS, n)) < margin, -1.0, 0.0)
        equal = rng.triangular(-0.5, 0.0, 0.5, (STUDENTS, n))
        cells = []
        for differences, levels in ((at_margin, (0.05,)), (equal, (0.05, 0.005))):
            by_t = ttest_1samp(differences, -margin, axis=1, alternative="greater").pvalue
            by_bets = np.array([PairedScores(tuple(row)).p_value(margin) for row in differences])
            cells += [f"{100 * (p <= level).mean():.1f} %" for level in levels for p in (by_t, by_bets)]
        rows.append([f"{n:,}", *cells])
    head = [
        "held-out rows",
        "at the margin, t-test, 0.05",
        "at the margin, betting, 0.05",
        "equal, t-test, 0.05",
        "equal, betting, 0.05",
        "equal, t-test, 0.005",
        "equal, betting, 0.005",
    ]
    return Table(
        f"Graded scores: promoted of {STUDENTS:,} students (margin 5 points; equal ones differ by 20 points from row to row)", head, rows
    )


def failures() -> Table:
    """Equal students at 50 rows that a gate calls a failure: by any observed loss of the margin, and by an interval wholly beyond it."""
    rng, margin, level, rows = np.random.default_rng(8), 0.05, PARAMS.alpha_per_heldout, []
    for discordance in (0.1, 0.2, 0.4):
        drawn = rng.multinomial(50, [discordance / 2, discordance / 2, 1 - discordance], STUDENTS)
        found = [PairedCounts(50, int(b), int(c)) for b, c, _ in drawn]
        observed = sum(c.difference <= -margin for c in found)
        shown = sum(judged_difference("", "", c, margin, level, score_test(c, margin), PARAMS.power).result == "fail" for c in found)
        rows.append([f"{100 * discordance:g} %", f"{100 * observed / STUDENTS:.1f} %", f"{100 * shown / STUDENTS:.1f} %"])
    head = ["discordance", "observed loss of the margin or more", "shown: `fail`"]
    return Table(f"Equal students that look or are called inferior at 50 rows (margin 5 points, {STUDENTS:,} students)", head, rows)


TABLES = (one_decision, a_hundred_nights, power_against_n, discoveries, retests, graded, failures)


def all_gates() -> Table:
    """Minutes of work, so the contract test looks only whether fewer decisions agree with it."""
    title = f"All gates of the bank example together, {DECISIONS:,} decisions each: promoted, and the share that each gate lets pass"
    return Table(title, whole_decision.HEAD, whole_decision.table(DECISIONS))


def weeks() -> Table:
    """Minutes of work too."""
    title = f"An unchanged system of the bank example over a week of nights, {WEEKS:,} draws each; all gates, total alpha 0.05"
    return Table(title, whole_decision.WEEK_HEAD, whole_decision.weeks(WEEKS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only the JSON object")
    parser.add_argument("--write", action="store_true", help="write the tables and the plot into docs/gates.md")
    given = parser.parse_args()
    tables, workflows, whole, over_nights = [make() for make in TABLES], gate_workflows.table(), all_gates(), weeks()
    if given.write:
        text = rewritten(DOC.read_text(encoding="utf-8"), tables)
        for table, mark in ((workflows, "workflows"), (whole, "all gates"), (over_nights, "weeks")):
            text = rewritten(text, [table], mark)
        DOC.write_text(text, encoding="utf-8")
        draw(PLOT)
    tables += [workflows, whole, over_nights]
    if not given.json:
        print("\n\n".join(t.markdown() for t in tables))
    print(json.dumps({t.title: [t.head, *t.rows] for t in tables}, ensure_ascii=False))


if __name__ == "__main__":
    main()
