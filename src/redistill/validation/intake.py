"""Filters for all rows before any teacher call, store write or push.

Each row is judged by itself first (length, secrets, personal data, insults, language), in every split, with its label, its id and its slice. All filters see
texts in normal form (``data.normal_form``), so another spelling of the same characters passes none of them. Then rows are compared
with each other: copies of held-out and monitor rows are dropped from all other splits, copies of dev rows from the training splits, and of
near-duplicates the first in a fixed order is kept. Deterministic, without side effects; a second run on the kept rows drops nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from redistill.data.normal_form import normalised
from redistill.data.types import Prompt
from redistill.validation.filters import personal_data, profanity, secrets
from redistill.validation.filters.language import Language
from redistill.validation.filters.length import Length
from redistill.validation.filters.near_duplicate import NearDuplicates
from redistill.validation.params import IntakeParams
from redistill.validation.types import Candidate, Drop, DroppedRow, Filter, Keep, first_drop, first_objection

STAGE = "prepare"
PRIORITY = ("heldout", "monitor", "dev", "calibration", "train", "pool")
_TESTS = {"heldout": "a held-out row", "monitor": "a monitor row"}
"""Splits on which models are judged, and what one of their rows is called."""
_TRAINS = ("train", "pool")
_REDACTED_CHARS = 200
_LOOKED_AT_CHARS = 8000
_OVERLAP_CHARS = 400
_NUMBER_GOES_ON = re.compile(r"[^\w]{0,3}\d")
_NUMBER_AT_END = re.compile(r"\d[\d\W]*$")


def judge(splits: dict[str, list[Prompt]], params: IntakeParams) -> tuple[dict[str, list[Prompt]], list[DroppedRow]]:
    """Kept rows by split, in their order, and dropped rows in the order of the splits given."""
    row_verdicts = {(split, i): judge_row(p, params) for split, rows in splits.items() for i, p in enumerate(rows)}
    between = _judge_between(
        {split: [(i, p) for i, p in enumerate(rows) if row_verdicts[split, i] == Keep()] for split, rows in splits.items()}, params
    )
    verdicts = {**row_verdicts, **between}
    kept = {split: [p for i, p in enumerate(rows) if verdicts[split, i] == Keep()] for split, rows in splits.items()}
    dropped = [
        DroppedRow(
            p.id, redacted(p.source_id), STAGE, verdict.filter, verdict.reason, redacted(_whole_text(p)), redacted(p.slice), p.planted
        )
        for split, rows in splits.items()
        for i, p in enumerate(rows)
        if isinstance(verdict := verdicts[split, i], Drop)
    ]
    return kept, dropped


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
    yield Length(params).judge, _conversation
    for apply in _content_filters(params):
        yield apply, _normal_text
    yield Language(params).judge, _normal_message


def _content_filters(params: IntakeParams) -> Iterator[Filter]:
    """What no text may hold that is sent, stored or shown."""
    if params.secrets:
        yield secrets.judge
    if params.pii:
        yield personal_data.judge
    if params.profanity:
        yield profanity.judge


def _judge_fields(prompt: Prompt, params: IntakeParams) -> Keep | Drop:
    """What goes along with a text: its label trains models, its id and its slice are stored and shown."""
    for name, value in (("label", prompt.label), ("id", prompt.source_id), ("slice", prompt.slice)):
        verdict = Keep() if value is None else judge_text(value, params)
        if isinstance(verdict, Drop):
            return Drop(verdict.filter, f"{verdict.reason} in the {name}")
    return Keep()


@lru_cache(maxsize=4096)
def judge_text(text: str, params: IntakeParams) -> Keep | Drop:
    """Judge what is sent or stored besides a row's messages by what it holds: a label, an id, a slice, a text of a counterfactual pair."""
    return first_objection(_content_filters(params), Candidate(normalised(text)))


def _judge_between(splits: dict[str, list[tuple[int, Prompt]]], params: IntakeParams) -> dict[tuple[str, int], Drop]:
    seen = {name: NearDuplicates(params.near_duplicate) for name in (*_TESTS, "dev", "other")}
    tested: dict[str, set[tuple[str, ...]]] = {name: set() for name in _TESTS}
    verdicts: dict[tuple[str, int], Drop] = {}
    for split in sorted(splits, key=_rank):
        for i, prompt in sorted(splits[split], key=lambda pair: (pair[1].source_id, pair[1].id, pair[0])):
            text = normalised(_conversation(prompt))
            # Rows of one test split may resemble each other, as traffic does; the same request twice would count twice.
            request = tuple(normalised(part) for m in prompt.messages for part in (m.role, m.content)) + tuple(
                normalised(c.value) for c in prompt.columns
            )
            repeated = request in tested.get(split, ())
            verdict = Drop("near_duplicate", "duplicate of an earlier row") if repeated else _against(text, split, seen)
            if split in tested:
                tested[split].add(request)
            if verdict is None:
                seen[split if split in seen else "other"].add(text, text)
            else:
                verdicts[split, i] = verdict
    return verdicts


def _against(text: str, split: str, seen: dict[str, NearDuplicates]) -> Drop | None:
    for name, called in {**_TESTS, "dev": "a dev row", "other": "an earlier row"}.items():
        if name == split and split in _TESTS:
            continue
        match = seen[name].match(text)
        if match is None:
            continue
        same = match == text
        if name in _TESTS or (name == "dev" and split in _TRAINS):
            return Drop("decontamination", f"{'copy' if same else 'near-copy'} of {called}")
        return Drop("near_duplicate", f"{'duplicate' if same else 'near-duplicate'} of an earlier row")
    return None


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


def _conversation(prompt: Prompt) -> str:
    """The messages without the system message, which would make all requests similar."""
    return _joined([*(m.content for m in prompt.messages[:-1] if m.role != "system"), prompt.text])


def _joined(contents: Sequence[str]) -> str:
    return "\n".join(contents)
