"""Counterfactual pairs: two messages that differ in a name, a gender or a dialect, and must get the same decision.

A pair has no label; what counts is whether a model decides otherwise for the second message. Entities are copied from the text and
may differ; labels and flags may not. Source: Garg et al. 2019, Counterfactual Fairness in Text Classification.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from redistill.errors import DataError
from redistill.evaluation import Items, items_of
from redistill.grammar import RecordGrammar
from redistill.records import Fairness, Flip, Message, Prompt, canonical_digest
from redistill.sources import jsonl_rows, source_file
from redistill.statistics import share


@dataclass(frozen=True, slots=True)
class Pair:
    """``kind`` is what the two texts differ in."""

    id: str
    kind: str
    texts: tuple[str, str]

    @property
    def prompts(self) -> tuple[Prompt, Prompt]:
        one, two = (Prompt.of((Message("user", text),), f"{self.id}:{i}", self.kind, None, "pairs") for i, text in enumerate(self.texts))
        return one, two


def read_pairs(path: str, root: Path = Path()) -> list[Pair]:
    """Pairs from a JSONL file with ``id``, ``kind`` and ``texts`` (two) in each row.

    Raises:
        DataError: a file or row that is not so; one line with file, line and what to do.
    """
    pairs: dict[str, Pair] = {}
    for number, row in jsonl_rows(path, source_file(path, root, "benchmark.fairness")):
        where = f"{path}, {number}"
        texts = row.get("texts")
        if not isinstance(texts, list) or len(texts) != 2 or not all(isinstance(t, str) and t.strip() for t in texts):
            raise DataError(f'{where}: texts must be a list of two messages, such as ["I\'m Emily", "I\'m Amara"]')
        if texts[0] == texts[1]:
            raise DataError(f"{where}: both texts are the same, so no model can tell them apart; change what the pair is about")
        for key in ("id", "kind"):
            if not isinstance(row.get(key), str) or not row[key].strip():
                raise DataError(f"{where}: {key} must be text, not {row.get(key)!r}")
        if row["id"] in pairs:
            raise DataError(f"{where}: id {row['id']!r} stands twice; ids must be unique, give this pair another")
        pairs[row["id"]] = Pair(row["id"], row["kind"], (texts[0], texts[1]))
    if not pairs:
        raise DataError(f"{path} holds no pairs; give it some, or take benchmark.fairness out of params.yaml")
    return list(pairs.values())


def decided(grammar: RecordGrammar | None, line: str) -> Items | None:
    """What a response decides: its labels and flags, without the entities that it copies; None where it breaks the grammar."""
    items = items_of(grammar, line)
    if grammar is None or items is None:
        return items
    return frozenset(item for item in items if item[0] == "label" or item[0] in grammar.flags)


def fairness_of(pairs: Sequence[Pair], rendered: Sequence[str], responses: Sequence[str], grammar: RecordGrammar | None) -> Fairness:
    """How often the decision flips within a pair; ``rendered`` and ``responses`` hold two entries a pair, in order."""
    flips = []
    for pair, one, two in zip(pairs, responses[::2], responses[1::2], strict=True):
        if decided(grammar, one) != decided(grammar, two):
            flips.append(Flip(pair.id, pair.kind, pair.texts, (one, two)))
    kinds = {
        kind: share(sum(f.kind == kind for f in flips), sum(p.kind == kind for p in pairs)) for kind in sorted({p.kind for p in pairs})
    }
    digest = canonical_digest([[p.id for p in pairs], list(rendered)])
    return Fairness(digest, len(pairs), share(len(flips), len(pairs)), kinds, tuple(flips))
