"""Which logged prompts may train a student, and which of them a cycle takes.

A row needs consent, a reviewed licence, and the text that its caller sent. Then intake judges it as any other row, and near-duplicates of the project's prompts
and of earlier rows go. The rest is spread over slices and bands of novelty. No completion is looked at: a prompt comes home, and the teacher completes it
again. So a student is never trained on its own text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from redistill.data.forgotten import tombstone_digest
from redistill.data.normal_form import normalised
from redistill.data.params import DataParams, TrafficSourceParams
from redistill.data.sources import split_of
from redistill.data.traffic.types import LoggedRequest
from redistill.data.types import DEFAULT_SLICE, Prompt
from redistill.errors import DataError
from redistill.io.digests import canonical_digest
from redistill.runtime.in_chunks import in_chunks
from redistill.validation.filters.near_duplicate import NearDuplicates
from redistill.validation.intake import conversation, drops_of
from redistill.validation.licences import is_filled_in
from redistill.validation.params import IntakeParams
from redistill.validation.traffic.novelty import bands, novelty
from redistill.validation.traffic.strata import spread

NO_CONSENT, NO_REVIEW = "no consent", "a licence without a review"
FORGOTTEN = "a person had it removed (redistill forget)"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a project asks of logged prompts. ``licences`` are those that a valid review of this source has.

    ``forgotten`` are the digests of prompts that a person had removed: a log that is imported again must not bring them back. ``candidates`` bounds time and memory: of a slice that has more different prompts, so many are looked at, chosen by a hash.
    """

    data: DataParams
    intake: IntakeParams
    licences: frozenset[str]
    forgotten: frozenset[str] = frozenset()
    candidates: int = 50_000


@dataclass(frozen=True, slots=True)
class Chosen:
    """``rows`` are taken; ``groups`` says from where. ``left_out`` counts the others by reason, of ``read`` rows. ``licences`` are those without a review."""

    rows: tuple[LoggedRequest, ...]
    read: int
    left_out: dict[str, int]
    groups: dict[str, int]
    licences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    row: LoggedRequest
    prompt: Prompt


def choose(logged: Iterable[LoggedRequest], source: TrafficSourceParams, known: Sequence[Prompt], rules: Rules) -> Chosen:
    """The rows of a cycle. Equal logs, prompts and rules give equal rows, and a row does not change its split when the log grows.

    Args:
        logged: oldest first.
        known: every prompt that the project has from its other sources.
    """
    left_out, refused = Counter[str](), set[str]()
    candidates, read = _candidates(logged, source, rules, left_out, refused)
    drops = chain.from_iterable(in_chunks(partial(drops_of, params=rules.intake), [c.prompt for c in candidates]))
    judged = list(zip(candidates, drops, strict=True))
    left_out.update(f"{drop.filter}: {drop.reason}" for _, drop in judged if drop is not None)
    kept = _apart([c for c, drop in judged if drop is None], known, rules.intake, left_out)
    keys = _groups(kept, source, known)
    places = spread([c.prompt.id for c in kept], keys, source.max_rows)
    if more := len(kept) - len(places):
        left_out["more than max_rows"] += more
    groups = Counter(" ".join(keys[place]) or DEFAULT_SLICE for place in places)
    return Chosen(tuple(kept[place].row for place in places), read, dict(left_out), dict(sorted(groups.items())), tuple(sorted(refused)))


def _candidates(
    logged: Iterable[LoggedRequest], source: TrafficSourceParams, rules: Rules, left_out: Counter[str], refused: set[str]
) -> tuple[list[_Candidate], int]:
    """Rows that may be taken as far as each shows by itself, each prompt once, oldest first; and how many were read."""
    slices, seen, read = dict[str, dict[str, _Candidate]](), set[str](), 0
    most = max(rules.candidates, source.max_rows)
    for row in logged:
        read += 1
        prompt = Prompt.of(row.messages, "", row.slice or DEFAULT_SLICE, None, source.path, columns=row.columns)
        reason = _refusal(row, prompt, rules) or _unusable(row, prompt, source, rules.data)
        if reason == NO_REVIEW:
            refused.add(row.licence)
        if not reason and prompt.id in seen:
            reason = "the same prompt as an earlier row"
        if reason:
            left_out[reason] += 1
            continue
        seen.add(prompt.id)
        members = slices.setdefault(prompt.slice, {})
        members[prompt.id] = _Candidate(replace(row, prompt_id=prompt.id, slice=prompt.slice), prompt)
        if len(members) > 2 * most:
            _keep_some(members, most, left_out)
    for members in slices.values():
        _keep_some(members, most, left_out)
    order = sorted((c for members in slices.values() for c in members.values()), key=lambda c: (c.row.at, c.row.id, c.prompt.id))
    return order, read


def _keep_some(members: dict[str, _Candidate], most: int, left_out: Counter[str]) -> None:
    """Keep the smallest hashes: the same ones in whatever order the rows come."""
    for extra in sorted(members, key=lambda name: canonical_digest(["candidate", name]))[most:]:
        del members[extra]
        left_out["more than max_rows"] += 1


def _refusal(row: LoggedRequest, prompt: Prompt, rules: Rules) -> str:
    if tombstone_digest(prompt.id) in rules.forgotten:
        return FORGOTTEN
    if not is_filled_in(row.consent):
        return NO_CONSENT
    return "" if row.licence in rules.licences else NO_REVIEW


def _unusable(row: LoggedRequest, prompt: Prompt, source: TrafficSourceParams, data: DataParams) -> str:
    """Why a row is no prompt of this project, as it is now; empty where it is one."""
    if row.replaced and not source.replaced:
        return "personal data or a secret was replaced"
    if tuple(column.name for column in row.columns) != data.shown_columns:
        return "logged with other columns than the template shows"
    if problem := not_a_prompt(prompt, data):
        return problem
    return "" if split_of(prompt.id, source.splits) else "in the share that belongs to no split"


def not_a_prompt(prompt: Prompt, data: DataParams) -> str:
    """Why messages cannot be shown with the project's template; empty where they can."""
    roles = [message.role for message in prompt.messages]
    if not roles or roles[-1] in ("assistant", "system"):
        return "the last message asks nothing"
    return "several messages, and data.format is plain" if len(roles) > 1 and data.format == "plain" else ""


def _apart(candidates: list[_Candidate], known: Sequence[Prompt], intake: IntakeParams, left_out: Counter[str]) -> list[_Candidate]:
    """Without near-duplicates of known prompts and of earlier candidates."""
    texts = [normalised(conversation(prompt)) for prompt in (*known, *(c.prompt for c in candidates))]
    index = NearDuplicates(texts, intake.near_duplicate, processes=None)
    for number in range(len(known)):
        index.add(number)
    kept = []
    for number, candidate in enumerate(candidates, len(known)):
        match = index.match(number)
        if match is None:
            index.add(number)
            kept.append(candidate)
        else:
            left_out[f"near-duplicate of {'a prompt of another source' if match < len(known) else 'an earlier row'}"] += 1
    return kept


def _groups(kept: Sequence[_Candidate], source: TrafficSourceParams, known: Sequence[Prompt]) -> list[tuple[str, ...]]:
    """The group of each row, by what ``source.by`` names, in that order."""
    parts: dict[str, list[str]] = {"slice": [c.prompt.slice for c in kept]}
    if "novelty" in source.by:
        parts["novelty"] = bands(novelty([c.prompt.text for c in kept], [prompt.text for prompt in known]))
    return [tuple(parts[name][place] for name in source.by) for place in range(len(kept))]


def require_consent(chosen: Chosen, source: TrafficSourceParams) -> None:
    """Refuse a source whose every row lacks consent or a reviewed licence.

    Raises:
        DataError: says what to do.
    """
    refused = chosen.left_out.get(NO_CONSENT, 0) + chosen.left_out.get(NO_REVIEW, 0)
    if chosen.read and refused == chosen.read:
        raise DataError(f"{source.path}: none of its {chosen.read:,} rows may be used: " + "; ".join(lines(chosen, source)))


def lines(chosen: Chosen, source: TrafficSourceParams) -> list[str]:
    """What was left out, a line for each reason, with what to do about the first two."""
    names = ", ".join(repr(name[:40]) for name in chosen.licences[:3])
    remedies = {
        NO_CONSENT: "set traffic.consent for what is logged from now on, or import the traces with --consent",
        NO_REVIEW: f"({names}); read its terms, and add a review with this licence, covers: data and sources: [{source.path}] to governance.licenses",
    }
    return [
        f"{count:,} left out: {reason}"
        + (f"; {remedies[reason]}" if reason == NO_CONSENT else f" {remedies[reason]}" if reason == NO_REVIEW else "")
        for reason, count in sorted(chosen.left_out.items(), key=lambda item: (-item[1], item[0]))
    ]
