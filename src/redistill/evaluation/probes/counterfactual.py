"""Counterfactual pairs: two messages that differ in a name, a gender or a dialect, and must get the same decision.

A pair has no label; what counts is whether a model decides otherwise for the second message. Entities are copied from the text and
may differ; labels and flags may not. A completion that breaks the grammar decides nothing, so its pair counts as a flip.

Ten names in one message make ten pairs, but not ten independent ones: a model that misreads the message flips them together. So each pair knows
its message, and in rates and tests each message counts once (``statistics.clustered_counts``).

Source: Garg et al. 2019, Counterfactual Fairness in Text Classification.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path

from redistill.data.grammars.types import Grammar, Items
from redistill.data.readers.files import described, source_file
from redistill.data.readers.jsonl import jsonl_rows
from redistill.data.types import Message, Prompt
from redistill.errors import DataError
from redistill.evaluation.outcomes import items_of
from redistill.evaluation.types import Confidence, Fairness, Flip, PairOutcome
from redistill.io.digests import canonical_digest
from redistill.statistics.shares import clustered_share
from redistill.statistics.types import Score


@dataclass(frozen=True, slots=True)
class Pair:
    """``kind`` is what the two texts differ in, ``message`` the message that they are two versions of."""

    id: str
    kind: str
    texts: tuple[str, str]
    message: str

    @property
    def prompts(self) -> tuple[Prompt, Prompt]:
        one, two = (Prompt.of((Message("user", text),), f"{self.id}:{i}", self.kind, None, "pairs") for i, text in enumerate(self.texts))
        return one, two


def read_pairs(path: str, root: Path = Path()) -> list[Pair]:
    """Pairs from a JSONL file with ``id``, ``kind`` and ``texts`` (two) in each row, and ``message`` in all rows or in none.

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
            raise DataError(f"{where}: both texts are the same, so the pair tests nothing; change one of them")
        for key in ("id", "kind", *(["message"] if "message" in row else [])):
            if not isinstance(row.get(key), str) or not row[key].strip():
                raise DataError(f"{where}: {key} must be text, not {described(row.get(key))}")
        if row["id"] in pairs:
            raise DataError(f"{where}: its id occurs twice; ids must be unique; give this pair another id")
        pairs[row["id"]] = Pair(row["id"], row["kind"], (texts[0], texts[1]), row.get("message", ""))
    if not pairs:
        raise DataError(f"{path} has no pairs; add some, or remove benchmark.fairness from params.yaml")
    unnamed = [pair.id for pair in pairs.values() if not pair.message]
    if 0 < len(unnamed) < len(pairs):
        raise DataError(
            f"{path}: {len(unnamed)} of the {len(pairs)} pairs have no message, and the others have one; all pairs of one "
            "message count once, so give the message in all pairs or in none"
        )
    return with_messages(list(pairs.values()))


def with_messages(pairs: Sequence[Pair]) -> list[Pair]:
    """The same pairs, each with its message: the one that it names, else the one that its texts show.

    Unnamed pairs come from one message where they have a text in common, or where the words that both texts of the one share are the words that both
    texts of the other share. The shared words must be at least half of the longer text: two dialects may share no more than "I". Such a
    message has the id of its first pair.
    """
    first: dict[object, str] = {}
    message: dict[str, str] = {}
    for pair in pairs:
        keys = _keys(pair)
        own = pair.message or pair.id
        joined = {message[first[key]] for key in keys if key in first}
        # A pair may connect messages that looked different until now.
        name = next((m for m in message.values() if m in joined), own)
        message |= {known: name for known, m in message.items() if m in joined} | {pair.id: name}
        for key in keys:
            first.setdefault(key, pair.id)
    return [replace(pair, message=message[pair.id]) for pair in pairs]


def _keys(pair: Pair) -> list[object]:
    """What pairs of one message have in common: its name, or else a text or the shared words."""
    if pair.message:
        return [("name", pair.message)]
    one, two = (text.casefold().split() for text in pair.texts)
    blocks = SequenceMatcher(None, one, two, autojunk=False).get_matching_blocks()
    common = tuple(word for block in blocks for word in one[block.a : block.a + block.size])
    enough = 2 * len(common) >= max(len(one), len(two))
    return [("text", tuple(one)), ("text", tuple(two)), *([("shared", common)] if enough else [])]


def decided(grammar: Grammar | None, line: str) -> Items | None:
    """What a response decides, without what it copies or writes; None where it breaks the grammar."""
    items = items_of(grammar, line)
    return items if grammar is None or items is None else grammar.decisions(line)


def outcomes_of(
    pairs: Sequence[Pair], responses: Sequence[str], confidences: Sequence[tuple[Confidence, ...]] | None = None
) -> list[PairOutcome]:
    """One model's responses as records; ``responses`` and ``confidences`` hold two entries a pair, in order."""
    sure: Sequence[tuple[tuple[Confidence, ...], ...]] = (
        [()] * len(pairs) if confidences is None else list(zip(confidences[::2], confidences[1::2], strict=True))
    )
    both = zip(responses[::2], responses[1::2], strict=True)
    return [PairOutcome(p.id, p.kind, p.message, p.texts, r, c) for p, r, c in zip(pairs, both, sure, strict=True)]


def pairs_digest(pairs: Sequence[Pair], rendered: Sequence[str]) -> str:
    """What was asked: the pairs with their messages, and their prompts."""
    return canonical_digest([[[p.id, p.message] for p in pairs], list(rendered)])


def fairness_from(outcomes: Sequence[PairOutcome], digest: str, grammar: Grammar | None) -> Fairness:
    """How often the decision flips within a pair; ``digest`` is ``pairs_digest`` of the pairs."""
    flips = []
    for pair in outcomes:
        (one, two), (first, second) = pair.responses, pair.texts
        decisions = decided(grammar, one), decided(grammar, two)
        if None in decisions or decisions[0] != decisions[1]:
            flips.append(Flip(pair.pair, pair.kind, (first, second), (one, two), pair.message))
    kinds = {kind: _rate([p for p in outcomes if p.kind == kind], flips) for kind in sorted({p.kind for p in outcomes})}
    return Fairness(digest, len(outcomes), _rate(outcomes, flips), kinds, tuple(flips), dict(Counter(p.message for p in outcomes)))


def _rate(pairs: Sequence[PairOutcome], flips: Sequence[Flip]) -> Score:
    flipped = {flip.pair for flip in flips}
    sizes, hits = Counter(p.message for p in pairs), Counter(p.message for p in pairs if p.pair in flipped)
    return clustered_share([(hits[message], n) for message, n in sizes.items()])
