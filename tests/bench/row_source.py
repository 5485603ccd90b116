"""Rows of a customer service by a seeded grammar: varied messages, some of them copies of earlier ones, exact or nearly so.

Nothing is taken from data. How alike two different messages are is like in the bank example: most pairs share no 5-gram worth mentioning, one in a
hundred about 7 % of them (``python -m tests.bench.near_duplicates`` prints it). Equal seeds make equal rows on every machine.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

LABELS = ("address", "card", "fee", "login", "other", "payment", "refund", "transfer")
_EXACT, _NEAR, _REMEMBERED = 0.02, 0.08, 20_000
_OPENERS = (
    "", "", "", "hi, ", "hello there, ", "good morning, ", "sorry to bother you but ", "quick one: ", "not sure who handles this, ", "again, ",
    "following up, ", "as discussed, ", "urgent please, ", "hey team, ", "third time asking, ", "maybe a silly question, ",
)  # fmt: skip
_ACTORS = (
    "my flatmate", "our bookkeeper", "I", "the shop", "your app", "a courier", "my late aunt", "the landlord", "somebody at the branch", "our club",
    "my employer", "the garage", "an agent", "my daughter", "the machine", "that website", "we", "the gym", "a neighbour", "the council",
)  # fmt: skip
_VERBS = (
    "cancelled", "charged", "moved", "lost", "blocked", "refunded", "sent", "changed", "rejected", "copied", "forgot", "doubled", "queried",
    "delayed", "mislaid", "reversed", "renewed", "locked", "opened", "declined", "posted", "returned", "withdrew", "renamed", "shared",
)  # fmt: skip
_KINDS = (
    "standing", "replacement", "quarterly", "savings", "joint", "gift", "monthly", "holiday", "student", "cash", "loan", "parking", "foreign", "annual",
    "travel", "mortgage", "garden", "birthday", "second", "company", "school", "train", "phone", "winter", "charity", "disputed", "pension", "water",
)  # fmt: skip
_THINGS = (
    "order", "card", "invoice", "pot", "account", "voucher", "plan", "deposit", "hint", "cheque", "cover", "advance", "form", "receipt", "letter",
    "balance", "statement", "payment", "debit", "passcode", "permit", "fee", "top-up", "insurance", "ticket", "bundle", "quote", "agreement", "parcel",
)  # fmt: skip
_JOINTS = ("and", "although", "because", "so", "while", "but", "since", "until", "even if", "when", "before")
_EVENTS = (
    "nothing arrived", "nobody was told", "rent is late", "the line went dead", "zero is shown", "it was overdue", "two reminders came", "I was abroad",
    "your office closed", "they apologised", "the name is wrong", "an update came", "my limit is lower", "interest ran up", "the screen froze",
    "somebody signed twice", "the queue was endless", "we moved house", "a typo slipped in", "it rained in", "mum paid cash", "her visa expired",
)  # fmt: skip
_ASKS = (
    "can you check?", "please put it right.", "what happens next?", "who should I ring?", "is that normal?", "how long will it take?", "kindly advise.",
    "stop it at once.", "where do I complain?", "do I need a form?", "would a visit help?", "any news?", "", "", "", "",
)  # fmt: skip
_SYLLABLES = (
    "bra",
    "cor",
    "del",
    "fen",
    "gil",
    "hul",
    "jor",
    "kim",
    "lav",
    "mon",
    "nor",
    "pel",
    "qui",
    "ros",
    "sut",
    "tam",
    "ulv",
    "wex",
    "yar",
    "zed",
)
_MONTHS = ("January", "March", "April", "June", "July", "September", "October", "December")
_POLITE = (" thanks", " please help", "!!", " cheers", " (sent from my phone)", " ok?")


def rows(count: int, seed: int = 1) -> Iterator[dict[str, str]]:
    """``id``, ``text``, ``label`` and ``slice`` of each row: 2 % exact copies, 8 % near-copies of one of the last 20,000 messages."""
    rng, earlier = random.Random(seed), list[str]()
    for number in range(count):
        draw = rng.random()
        if earlier and draw < _EXACT + _NEAR:
            text = rng.choice(earlier)
            text = text if draw < _EXACT else near_copy(text, rng)
        else:
            text = message(rng)
        if len(earlier) < _REMEMBERED:
            earlier.append(text)
        else:
            earlier[rng.randrange(_REMEMBERED)] = text
        yield {"id": f"r{number:07}", "text": text, "label": rng.choice(LABELS), "slice": rng.choice(("app", "mail", "phone"))}


def write(path: Path, count: int, seed: int = 1) -> None:
    with open(path, "w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in rows(count, seed))


def message(rng: random.Random) -> str:
    """One to three sentences of invented names, amounts and dates."""
    sentences = [_sentence(rng) for _ in range(rng.choice((1, 1, 2, 2, 3)))]
    return f"{rng.choice(_OPENERS)}{'. '.join(sentences)}. {rng.choice(_ASKS)}".strip()


def near_copy(text: str, rng: random.Random) -> str:
    """The message as a hurried person sends it again: a typing error or two, a word more or less, another ending."""
    words = text.split()
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(len(words))
        change = rng.random()
        if change < 0.5 and len(words[place]) > 3:
            cut = rng.randrange(1, len(words[place]) - 1)
            words[place] = words[place][:cut] + words[place][cut + 1 :]
        elif change < 0.75 and len(words) > 4:
            del words[place]
        else:
            words.insert(place, rng.choice(("really", "still", "just", "now", "also")))
    return " ".join(words) + (rng.choice(_POLITE) if rng.random() < 0.5 else "")


def _sentence(rng: random.Random) -> str:
    parts = [
        rng.choice(_ACTORS),
        rng.choice(_VERBS),
        rng.choice(("the", "my", "our", "a", "that")),
        rng.choice(_KINDS),
        rng.choice(_THINGS),
    ]
    if rng.random() < 0.6:
        parts.append(f"at {_name(rng)}" if rng.random() < 0.5 else f"from {_name(rng)} {_name(rng)}")
    if rng.random() < 0.5:
        parts.append(f"of £{rng.randrange(1, 900)}.{rng.randrange(100):02}")
    if rng.random() < 0.4:
        parts.append(f"on {rng.randrange(1, 29)} {rng.choice(_MONTHS)}")
    if rng.random() < 0.7:
        parts += [rng.choice(_JOINTS), rng.choice(_EVENTS)]
    return " ".join(parts)


def _name(rng: random.Random) -> str:
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((2, 2, 3)))).capitalize()
