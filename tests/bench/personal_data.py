"""How much personal data and how many secrets intake finds, and how many ordinary sentences it drops, on labelled rows.

``python -m tests.bench.personal_data [--write] [--json] [--misses HALF]``. The development half was used to write the patterns, so its figures are too good. The
held-out halves were written by other authors, and each was looked at once, when the patterns were final. ``--write`` puts the tables into docs/data.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from redistill.data.normal_form import normalised
from redistill.statistics.shares import share_interval
from redistill.validation.filters import personal_data, secrets
from redistill.validation.filters.personal_data import redact
from tests.bench.tables import Table, rewritten

ROOT = Path(__file__).resolve().parents[2]
DOC, DATA = ROOT / "docs" / "data.md", ROOT / "tests" / "data" / "personal_data"
HALVES = {
    "development": "Development half, used to write the patterns",
    "heldout": "Held-out half, by another author",
    "second_heldout": "Second held-out half, by another author, looked at once",
}
"""File → title of its table; a half without a file has none."""
NONE, MARK = "none", "personal data"
KINDS = {
    "email": {"e-mail address"},
    "card": {"payment card"},
    "iban": {"IBAN"},
    "phone": {"phone number"},
    "sort_code_account": {"bank account"},
    "ssn": {"social security number"},
    "nino": {"national insurance number"},
    "passport": {"passport number"},
    "ip": {"IP address"},
    "pin": {"PIN"},
    "cvv": {"card security code"},
    "address": {"postal address"},
}
"""Kind of a row → what the filter calls it. What the filter of secrets finds counts for ``password`` or ``api_key``."""
_PIECE, _PIECE_DIGITS = 6, 4


@dataclass
class Counts:
    """``missed``: the value is still in the redacted text; ``partly``: six characters of it are, with four digits or more."""

    rows: int = 0
    missed: list[str] = field(default_factory=list)
    partly: list[str] = field(default_factory=list)
    wrongly: list[str] = field(default_factory=list)


def read(half: str) -> list[dict[str, str]]:
    """Rows with ``kind``, ``text`` and ``value``; none where the half is not there."""
    file = DATA / f"{half}.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def survives(value: str, safe: str) -> bool:
    """Whether the value can still be read, in any spelling of its characters."""
    return value in safe or normalised(value) in normalised(safe)


def piece_survives(value: str, safe: str) -> bool:
    plain, text = normalised(value), normalised(safe)
    pieces = {plain[i : i + _PIECE] for i in range(len(plain) - _PIECE + 1)}
    return any(piece in text for piece in pieces if sum(c.isdigit() for c in piece) >= _PIECE_DIGITS)


def kinds_found(text: str) -> set[str]:
    """The kinds of rows that the filters see in a text."""
    named = {kind for f in personal_data.find(text) for kind, names in KINDS.items() if f.kind in names}
    return named | {"password" if "password" in f.kind else "api_key" for f in secrets.find(text)}


def counted(rows: list[dict[str, str]]) -> dict[str, Counts]:
    """Counts by kind, as users meet them: a row is caught if the text that is left over does not hold the value."""
    counts: dict[str, Counts] = defaultdict(Counts)
    for row in rows:
        of_kind = counts[row["kind"]]
        of_kind.rows += 1
        if row["kind"] == NONE:
            for kind in (seen := kinds_found(row["text"])):
                counts[kind].wrongly.append(row["text"])
            of_kind.wrongly += [row["text"]] if seen else []
            continue
        safe = redact(row["text"])
        if survives(row["value"], safe):
            of_kind.missed.append(row["text"])
        elif piece_survives(row["value"], safe):
            of_kind.partly.append(row["text"])
    return counts


def percent(successes: int, n: int) -> str:
    interval = share_interval(successes, n, 0.05)
    return f"{100 * successes / n:.1f} % ({100 * interval.low:.1f}–{100 * interval.high:.1f})"


def table(half: str) -> Table | None:
    """Recall and false positives of one half, with exact 95 % intervals; None where the half is not there."""
    rows = read(half)
    if not rows:
        return None
    counts = counted(rows)
    ordinary, kinds = counts[NONE], [k for k in Counter(r["kind"] for r in rows) if k != NONE]
    lines = []
    for kind in kinds:
        c = counts[kind]
        caught = c.rows - len(c.missed)
        lines.append(
            [f"`{kind}`", f"{caught} of {c.rows}", percent(caught, c.rows), str(len(c.partly)), percent(len(c.wrongly), ordinary.rows)]
        )
    total = sum(counts[k].rows for k in kinds)
    caught = total - sum(len(counts[k].missed) for k in kinds)
    lines.append(["all", f"{caught} of {total}", percent(caught, total), str(sum(len(counts[k].partly) for k in kinds)), percent(len(ordinary.wrongly), ordinary.rows)])  # fmt: skip
    head = [
        "kind",
        "caught",
        "recall (95 % interval)",
        "of these, a piece is left",
        f"false positives of {ordinary.rows} ordinary sentences",
    ]
    return Table(HALVES[half], head, lines)


def tables() -> list[Table]:
    return [made for half in HALVES if (made := table(half)) is not None]


def microseconds_a_row(rows: list[dict[str, str]]) -> tuple[float, float]:
    """Time of the filters of personal data and of secrets, the best of five runs."""
    texts = [r["text"] for r in rows]
    best = []
    for search in (personal_data.find, secrets.find):
        runs = []
        for _ in range(5):
            start = time.perf_counter()
            for text in texts:
                search(text)
            runs.append(time.perf_counter() - start)
        best.append(1e6 * min(runs) / len(texts))
    return best[0], best[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only the JSON object")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/data.md")
    parser.add_argument("--misses", choices=HALVES, help="print the rows of a half that are missed or wrongly found")
    options = parser.parse_args()
    made = tables()
    if options.write:
        DOC.write_text(rewritten(DOC.read_text(encoding="utf-8"), made, MARK), encoding="utf-8")
    if not options.json:
        print("\n\n".join(t.markdown() for t in made))
        personal, secret = microseconds_a_row(read("development"))
        print(f"\n{personal:.0f} µs a row for personal data, {secret:.0f} µs for secrets")
    if options.misses:
        for kind, c in counted(read(options.misses)).items():
            for name, texts in (("missed", c.missed), ("partly", c.partly), ("wrongly", c.wrongly)):
                print(*(f"{kind} {name}: {text!r}" for text in texts), sep="\n", end="\n" if texts else "")
    print(json.dumps({t.title: [t.head, *t.rows] for t in made}, ensure_ascii=False)) if options.json else None


if __name__ == "__main__":
    main()
