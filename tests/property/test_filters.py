"""What must hold of filters whatever the text: idempotent, free of order, and nothing found left behind."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from redistill.data.sources import split_of
from redistill.data.types import SPLITS, Message, Prompt
from redistill.validation.filters import personal_data, profanity, repetition, secrets
from redistill.validation.filters.near_duplicate import NearDuplicates, canonical, jaccard, shingles
from redistill.validation.filters.quoting import QuoteIndex
from redistill.validation.intake import judge, redacted
from redistill.validation.params import IntakeParams

PIECES = (
    "4111 1111 1111 1111", "3782822463 10005", "me@example.org", "a.b [at] c [dot] de", "GB82 WEST 1234 5698 7654 32", "+44 7700 900123",
    "020 7946 0958", "(212) 555-0123", "AKIAIOSFODNN7EXAMPLE", "password=hunter2", 'api key: "abc123x"', "https://u:pw1234@h.example",
    "-----BEGIN RSA PRIVATE KEY-----", "MIIEpAIBAAKCAQEA", "fuck", "sh1t", "£12.50", "3 May", "card 4821", " ", "\n", "@", "+", "-", ".", "12", "=",
    '"', "[CARD]", "secret:", "é",
)  # fmt: skip
messy = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6)), max_size=10).map("".join)
words = st.sampled_from(
    ["card", "lost", "my", "the", "pin", "please", "new", "where", "machine", "took", "fee", "£5", "transfer", "to", "a"]
)
sentences = st.lists(words, min_size=3, max_size=12).map(" ".join)


def values(text: str) -> list[str]:
    return [text[f.start : f.end] for f in (*personal_data.find(text), *secrets.find(text))]


@given(messy)
def test_redacted_text_holds_nothing_that_was_found_and_nothing_more_to_find(text: str) -> None:
    safe = personal_data.redact(text)
    assert all(value not in safe for value in values(text) if len(value) >= 6)
    assert values(safe) == []
    assert personal_data.redact(safe) == safe


@given(messy)
def test_findings_lie_in_the_text_in_order_without_overlap(text: str) -> None:
    found = personal_data.find(text)
    assert all(0 <= f.start < f.end <= len(text) for f in (*found, *secrets.find(text)))
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))


@given(messy)
def test_masking_is_complete_and_idempotent(text: str) -> None:
    safe = profanity.mask(text)
    assert profanity.find(safe) == []
    assert profanity.mask(safe) == safe


@given(messy)
def test_the_quarantine_is_short_and_clean(text: str) -> None:
    safe = redacted(text)
    assert len(safe) <= 200
    assert values(safe) == [] and profanity.find(safe) == []


@given(messy)
def test_repetition_is_a_share(text: str) -> None:
    assert 0.0 <= repetition.share(text) <= 1.0


@given(messy)
def test_canonical_text_is_its_own_canonical_text(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)


@given(st.lists(messy, min_size=1, max_size=8), messy)
def test_a_match_is_like_enough_and_an_equal_text_is_always_found(texts: list[str], asked: str) -> None:
    seen = NearDuplicates([*texts, *texts, asked], 0.5)
    for number in range(len(texts)):
        seen.add(number)
    matches = [seen.match(len(texts) + number) for number in range(len(texts))]
    assert [canonical(texts[-1 if n is None else n]) for n in matches] == [canonical(text) for text in texts]
    match = seen.match(2 * len(texts))
    near = asked if match is None else texts[match]
    assert canonical(near) == canonical(asked) or jaccard(shingles(near), shingles(asked)) >= 0.5


@given(sentences, sentences)
def test_a_text_never_quotes_more_than_it_holds_and_never_its_own_prompt(heldout: str, text: str) -> None:
    index = QuoteIndex([heldout], 3)
    quoted = index.match(text)
    assert quoted is None or (quoted in " ".join(text.replace("£", "").split()) and quoted in heldout.replace("£", ""))
    assert index.match(text, prompt=text) is None


@st.composite
def splits_of_prompts(draw: st.DrawFn) -> dict[str, list[Prompt]]:
    texts = draw(st.lists(st.one_of(sentences, messy), max_size=12))
    numbered = [(f"r{i:02}", text, draw(st.sampled_from(SPLITS))) for i, text in enumerate(texts)]
    rows = [(split, Prompt.of((Message("user", text),), name, "all", None, "s")) for name, text, split in numbered]
    return {split: [p for s, p in rows if s == split] for split in SPLITS}


@given(splits_of_prompts())
def test_intake_is_idempotent_and_loses_nothing(splits: dict[str, list[Prompt]]) -> None:
    kept, dropped = judge(splits, IntakeParams())
    assert judge(kept, IntakeParams()) == (kept, [])
    gone = {d.source_id for d in dropped}
    assert kept == {split: [p for p in rows if p.source_id not in gone] for split, rows in splits.items()}
    assert len(gone) == len(dropped) == sum(map(len, splits.values())) - sum(map(len, kept.values()))


@given(splits_of_prompts(), st.randoms(use_true_random=False))
def test_intake_does_not_depend_on_the_order_of_rows_or_splits(splits: dict[str, list[Prompt]], rng: random.Random) -> None:
    mixed = {split: rng.sample(splits[split], len(splits[split])) for split in rng.sample(SPLITS, len(SPLITS))}
    (kept, dropped), (kept_mixed, dropped_mixed) = judge(splits, IntakeParams()), judge(mixed, IntakeParams())
    assert sorted(dropped, key=lambda d: d.source_id) == sorted(dropped_mixed, key=lambda d: d.source_id)
    assert {s: {p.source_id for p in rows} for s, rows in kept.items()} == {
        s: {p.source_id for p in rows} for s, rows in kept_mixed.items()
    }


@given(st.binary(min_size=8, max_size=8), st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_a_row_falls_into_a_split_that_has_a_share(identity: bytes, weights: list[float]) -> None:
    total = sum(weights)
    shares = {name: w / total if total else 1 / 6 for name, w in zip(SPLITS, weights, strict=True)}
    name = split_of(identity.hex(), shares)
    assert name is not None and shares[name] > 0
