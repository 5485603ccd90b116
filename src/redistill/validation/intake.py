"""Filters for all rows before any teacher call, store write or push.

Each row is judged by itself first (length, secrets, personal data, insults, language), in every split, with its label, its id and its slice. All filters see
texts in normal form (``data.normal_form``), so another spelling of the same characters passes none of them. Then rows are compared
with each other: copies of held-out and monitor rows are dropped from all other splits, copies of dev rows from the training splits, and of
near-duplicates the first in a fixed order is kept. Deterministic, without side effects; a second run on the kept rows drops nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, islice

from redistill.data.forgotten import tombstone_digest
from redistill.data.normal_form import normalised
from redistill.data.types import Prompt
from redistill.runtime.in_chunks import in_chunks
from redistill.validation.content import content_filters, judge_text
from redistill.validation.filters import personal_data, profanity, secrets
from redistill.validation.filters.language import Language
from redistill.validation.filters.length import Length
from redistill.validation.filters.near_duplicate import NearDuplicates
from redistill.validation.params import IntakeParams
from redistill.validation.types import Candidate, Drop, DroppedRow, Filter, Keep, first_drop

STAGE = "prepare"
_FORGOTTEN = Drop("forgotten", "a person had it removed (redistill forget)")
PRIORITY = ("heldout", "monitor", "dev", "calibration", "train", "pool")
_TESTS = {"heldout": "a held-out row", "monitor": "a monitor row"}
"""Splits on which models are judged, and what one of their rows is called."""
_TRAINS = ("train", "pool")
_OTHER = "other"
_CALLED = {**_TESTS, "dev": "a dev row", _OTHER: "an earlier row"}
"""What a row is compared with, in this order."""
_KINDS = tuple(_CALLED)
_REDACTED_CHARS = 200
_LOOKED_AT_CHARS = 8000
_OVERLAP_CHARS = 400
_NUMBER_GOES_ON = re.compile(r"[^\w]{0,3}\d")
_NUMBER_AT_END = re.compile(r"\d[\d\W]*$")


def judge(
    splits: dict[str, list[Prompt]], params: IntakeParams, processes: int | None = None, forgotten: frozenset[str] = frozenset()
) -> tuple[dict[str, list[Prompt]], list[DroppedRow]]:
    """Kept rows by split, in their order, and dropped rows in the order of the splits given.

    ``processes`` is for tests; by default the number of usable cores decides. The result does not depend on it. ``forgotten`` are the digests of prompts that
    a person had removed: of such a row, quarantine has no text.
    """
    judged = chain.from_iterable(in_chunks(partial(drops_of, params=params), [p for rows in splits.values() for p in rows], processes))
    drops = {split: list(islice(judged, len(rows))) for split, rows in splits.items()}
    if forgotten:
        for split, rows in splits.items():
            drops[split] = [_FORGOTTEN if tombstone_digest(p.id) in forgotten else drop for p, drop in zip(rows, drops[split], strict=True)]
    _judge_between(splits, drops, params, processes)
    kept = {split: [p for p, drop in zip(rows, drops[split], strict=True) if drop is None] for split, rows in splits.items()}
    dropped = [(p, drop) for split, rows in splits.items() for p, drop in zip(rows, drops[split], strict=True) if drop is not None]
    return kept, list(chain.from_iterable(in_chunks(_quarantined, dropped, processes)))


def drops_of(prompts: Sequence[Prompt], params: IntakeParams) -> list[Drop | None]:
    """Why each row is dropped by itself, None for the others."""
    return [verdict if isinstance(verdict := judge_row(p, params), Drop) else None for p in prompts]


def _quarantined(dropped: Sequence[tuple[Prompt, Drop]]) -> list[DroppedRow]:
    return [
        DroppedRow(
            p.id,
            redacted(p.source_id),
            STAGE,
            drop.filter,
            drop.reason,
            "" if drop == _FORGOTTEN else redacted(_whole_text(p)),
            redacted(p.slice),
            p.planted,
        )
        for p, drop in dropped
    ]


def judge_row(prompt: Prompt, params: IntakeParams) -> Keep | Drop:
    """Judge one row by itself. Filters for personal data and secrets use all messages; length and language use the last message."""
    # One after the other, so that the slower filters do not get texts that are too long.
    verdicts = (apply(Candidate(text_of(prompt))) for apply, text_of in _filters(params))
    return first_drop(verdicts) or _judge_fields(prompt, params)


def redacted(text: str) -> str:
    """The part of a text that quarantine may store: no personal data, secrets or insults, and at most 200 characters."""
    # Cut after redaction, so that no half card number is left; but a pasted megabyte is not read whole for that.
    safe = _clean(text if len(text) <= _LOOKED_AT_CHARS else _beginning(text))
    if len(safe) <= _REDACTED_CHARS:
        return safe
    # A cut can make a word of what was part of one, and its replacement is a little longer.
    return _clean(_without_half(safe, _REDACTED_CHARS - 10))[: _REDACTED_CHARS - 1] + "…"


def _beginning(text: str) -> str:
    """The first characters of a long text, cut where no finding and no number is cut in two."""
    window, end = text[: _LOOKED_AT_CHARS + _OVERLAP_CHARS], _LOOKED_AT_CHARS
    for finding in sorted((*secrets.find(window), *personal_data.find(window)), key=lambda f: -f.start):
        if finding.start < end < finding.end:
            end = finding.start
    return _without_half(window, end)


def _without_half(text: str, end: int) -> str:
    """The text up to ``end``, without digits of a number that goes on behind it."""
    goes_on = _NUMBER_GOES_ON.match(text, end)
    return _NUMBER_AT_END.sub("", text[:end]) if goes_on else text[:end]


def _clean(text: str) -> str:
    # Each of the two can lay bare what was glued to its findings and escaped the other.
    while (safer := profanity.mask(personal_data.redact(text))) != text:
        text = safer
    return text


def _filters(params: IntakeParams) -> Iterator[tuple[Filter, Callable[[Prompt], str]]]:
    """The filters of requests in the order in which they are asked, and which text of a request each one judges."""
    yield Length(params).judge, _last_message
    yield Length(params).judge, conversation
    for apply in content_filters(params):
        yield apply, _normal_text
    yield Language(params).judge, _normal_message


def _judge_fields(prompt: Prompt, params: IntakeParams) -> Keep | Drop:
    """What goes along with a text: its label trains models, its id and its slice are stored and shown."""
    for name, value in (("label", prompt.label), ("id", prompt.source_id), ("slice", prompt.slice)):
        verdict = Keep() if value is None else judge_text(value, params)
        if isinstance(verdict, Drop):
            return Drop(verdict.filter, f"{verdict.reason} in the {name}")
    return Keep()


def _judge_between(
    splits: dict[str, list[Prompt]], drops: dict[str, list[Drop | None]], params: IntakeParams, processes: int | None
) -> None:
    """Compare the rows that are kept so far with each other, and write into ``drops``."""
    rows = [(split, i) for split in sorted(splits, key=_rank) for i in _in_fixed_order(splits[split], drops[split])]
    texts = [normalised(conversation(splits[split][i])) for split, i in rows]
    index = NearDuplicates(texts, params.near_duplicate, processes)
    tested: dict[str, set[tuple[str, ...]]] = {name: set() for name in _TESTS}
    for number, (split, i) in enumerate(rows):
        prompt = splits[split][i]
        # Rows of one test split may resemble each other, as traffic does; the same request twice would count twice.
        repeated = split in tested and (request := _request(prompt)) in tested[split]
        drop = Drop("near_duplicate", "duplicate of an earlier row") if repeated else _against(number, split, texts, index)
        if split in tested:
            tested[split].add(request)
        if drop is None:
            index.add(number, _KINDS.index(split if split in _KINDS else _OTHER))
        else:
            drops[split][i] = drop


def _request(prompt: Prompt) -> tuple[str, ...]:
    """All that a request shows, in normal form."""
    turns = (part for m in prompt.messages for part in (m.role, m.content))
    return tuple(normalised(part) for part in (*turns, *(c.value for c in prompt.columns)))


def _in_fixed_order(prompts: list[Prompt], drops: list[Drop | None]) -> list[int]:
    return sorted((i for i, drop in enumerate(drops) if drop is None), key=lambda i: (prompts[i].source_id, prompts[i].id, i))


def _against(number: int, split: str, texts: list[str], index: NearDuplicates) -> Drop | None:
    kinds = [kind for kind, name in enumerate(_KINDS) if name != split or split not in _TESTS]
    match = index.match(number, kinds)
    if match is None:
        return None
    name, same = _KINDS[index.kind_of(match)], texts[match] == texts[number]
    if name in _TESTS or (name == "dev" and split in _TRAINS):
        return Drop("decontamination", f"{'copy' if same else 'near-copy'} of {_CALLED[name]}")
    return Drop("near_duplicate", f"{'duplicate' if same else 'near-duplicate'} of an earlier row")


def _rank(split: str) -> tuple[int, str]:
    return (PRIORITY.index(split) if split in PRIORITY else len(PRIORITY), split)


def _last_message(prompt: Prompt) -> str:
    return prompt.text


def _whole_text(prompt: Prompt) -> str:
    return _joined([*(m.content for m in prompt.messages[:-1]), prompt.text])


def _normal_text(prompt: Prompt) -> str:
    return normalised(_whole_text(prompt))


def _normal_message(prompt: Prompt) -> str:
    return normalised(prompt.text)


def conversation(prompt: Prompt) -> str:
    """The messages without the system message, which would make all requests similar."""
    return _joined([*(m.content for m in prompt.messages[:-1] if m.role != "system"), prompt.text])


def _joined(contents: Sequence[str]) -> str:
    return "\n".join(contents)
