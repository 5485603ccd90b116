from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.data.forgotten import tombstone_digest
from redistill.data.params import DataParams, RecordParams, SourceParams, TrafficSourceParams
from redistill.data.sources import split_of
from redistill.data.traffic.types import LoggedRequest
from redistill.data.types import Column, Message, Prompt
from redistill.errors import DataError
from redistill.validation.params import IntakeParams
from redistill.validation.traffic.choose import Chosen, Rules, choose, lines, require_consent
from redistill.validation.traffic.novelty import bands, novelty
from redistill.validation.traffic.strata import shares, spread
from tests.logged import logged

INTAKE = IntakeParams(near_duplicate=0.95)
THINGS = [
    "card",
    "loan",
    "cheque",
    "transfer",
    "mortgage",
    "branch",
    "app",
    "password",
    "statement",
    "fee",
    "account",
    "refund",
    "insurance",
    "pension",
]
VERBS = ["lose", "block", "replace", "cancel", "move", "explain", "check", "print", "stop", "renew"]
TEXTS = [
    f"please help me, I want to {verb} the {thing} that you gave me in {month}"
    for verb in VERBS
    for thing in THINGS
    for month in ("May", "October")
]


def data(**changes: Any) -> DataParams:
    given: dict[str, Any] = {"name": "x", "task": "record", "record": RecordParams(labels=("fee",)), **changes}
    return DataParams(source=(SourceParams(path="a.jsonl", splits={"train": 1.0}),), **given)


def source(**changes: Any) -> TrafficSourceParams:
    return TrafficSourceParams(**{"traffic": "router", "splits": {"pool": 0.8, "calibration": 0.2}, **changes})


def chosen(rows: Sequence[LoggedRequest], known: Sequence[str] = (), params: DataParams | None = None, **changes: Any) -> Chosen:
    prompts = [Prompt.of((Message("user", text),), str(i), "app", None, "a.jsonl") for i, text in enumerate(known)]
    return choose(rows, source(**changes), prompts, Rules(params or data(), INTAKE, frozenset(["CC0-1.0"])))


def texts(result: Chosen) -> list[str]:
    return [row.messages[-1].content for row in result.rows]


def test_what_may_not_be_used_is_counted_by_reason() -> None:
    rows = [
        logged("the fee on my account is too high", 1),
        logged("the fee on my account is too high", 2),
        logged("a word about my card", 3, consent=" "),
        logged("a word about my loan", 4, consent="unknown"),
        logged("a word about my cheque", 5, licence="internal"),
        logged("my number is [PHONE]", 6, replaced=1),
        logged("with a column", 7, columns=(Column("product", "card"),)),
        logged("", 8, messages=(Message("user", "hello"), Message("assistant", "hi"))),
        logged("", 9, messages=(Message("system", "be brief"), Message("user", "where is my card"))),
        logged("mail me at anna.smith@example.com about the loan", 10),
    ]
    result = chosen(rows)
    assert texts(result) == ["the fee on my account is too high"] and result.read == 10
    assert result.left_out == {
        "no consent": 2,
        "a licence without a review": 1,
        "personal data or a secret was replaced": 1,
        "logged with other columns than the template shows": 1,
        "the last message asks nothing": 1,
        "several messages, and data.format is plain": 1,
        "the same prompt as an earlier row": 1,
        "personal_data: e-mail address": 1,
    }
    said = lines(result, source())
    assert "2 left out: no consent; set traffic.consent for what is logged from now on, or import the traces with --consent" in said
    assert any(
        "('internal'); read its terms, and add a review with this licence, covers: data and sources: [traffic:router]" in line
        for line in said
    )


def test_a_forgotten_prompt_does_not_come_back_when_its_log_is_imported_again() -> None:
    rows = [logged(TEXTS[0], 1), logged(TEXTS[1], 2)]
    rules = Rules(data(), INTAKE, frozenset(["CC0-1.0"]), frozenset([tombstone_digest(rows[0].prompt_id)]))
    result = choose(rows, source(), [], rules)
    assert texts(result) == [TEXTS[1]] and result.left_out == {"a person had it removed (redistill forget)": 1}


def test_rows_in_which_something_was_replaced_are_an_option() -> None:
    rows = [logged("my number is [PHONE], call me about the fee", replaced=1)]
    assert chosen(rows).rows == () and len(chosen(rows, replaced=True).rows) == 1


def test_a_chat_project_takes_conversations() -> None:
    row = logged("", messages=(Message("system", "be brief"), Message("user", "where is my card")))
    assert len(chosen([row], params=data(format="chat")).rows) == 1


def test_columns_of_the_template_come_with_the_row() -> None:
    params = data(prompt_template="{product}: {text}\n=>")
    row = logged("why is there a fee", columns=(Column("product", "card"),))
    [kept] = chosen([row], params=params).rows
    assert kept.columns == row.columns and chosen([logged("why is there a fee")], params=params).rows == ()


def test_a_source_that_nobody_agreed_to_is_refused_and_an_empty_one_is_not() -> None:
    refused = chosen([logged("one", consent=""), logged("two", licence="internal")])
    with pytest.raises(DataError, match=r"^traffic:router: none of its 2 rows may be used: .*no consent; set traffic\.consent"):
        require_consent(refused, source())
    require_consent(chosen([]), source())
    require_consent(chosen([logged("one", consent=""), logged("the fee is too high")]), source())


def test_near_duplicates_of_the_project_and_of_earlier_rows_go() -> None:
    rows = [
        logged("I want to know why my card was declined in the shop today", 1),
        logged("I want to know why my card was declined in the shop today!!", 2),
        logged("Please tell me how I can close my account with you for good", 3),
    ]
    result = chosen(rows, known=["please tell me how i can close my account with you, for good"])
    assert texts(result) == ["I want to know why my card was declined in the shop today"]
    assert result.left_out == {"near-duplicate of a prompt of another source": 1, "near-duplicate of an earlier row": 1}


def test_slices_get_equal_parts_of_the_rows() -> None:
    few = chosen([logged(text, i, slice="mail" if i < 20 else "app") for i, text in enumerate(TEXTS)], max_rows=30, by="slice")
    assert len(few.rows) == 30 and few.groups["mail"] == 15 and few.groups["app"] == 15
    assert few.left_out["more than max_rows"] + 30 + sum(n for reason, n in few.left_out.items() if "near" in reason) == len(TEXTS)


def test_novel_prompts_are_taken_first_where_there_is_no_room_for_all() -> None:
    known = TEXTS[:100]
    strange = ["the robot vacuum refuses to climb stairs", "why does bread need yeast to rise"]
    rows = [logged(text, i) for i, text in enumerate([*TEXTS[100:], *strange])]
    assert set(strange) <= set(texts(chosen(rows, known, max_rows=10)))
    assert chosen(rows, known, max_rows=10).groups["app new"] == 2
    by_chance = texts(chosen(rows, known, max_rows=10, by=[]))
    assert len(by_chance) == 10 and not set(strange) <= set(by_chance)


def test_the_choice_does_not_depend_on_the_order_of_the_rows() -> None:
    rows = [logged(text, i) for i, text in enumerate(TEXTS)]
    assert {row.prompt_id for row in chosen(rows, max_rows=20).rows} == {row.prompt_id for row in chosen(rows[::-1], max_rows=20).rows}


def test_a_row_stays_in_its_split_while_traffic_grows() -> None:
    splits: dict[str, set[str | None]] = {}
    kept = Counter[str]()
    for size in (60, 120, 200, len(TEXTS)):
        for row in chosen([logged(text, i) for i, text in enumerate(TEXTS[:size])], max_rows=40).rows:
            splits.setdefault(row.prompt_id, set()).add(split_of(row.prompt_id, source().splits))
            kept[row.prompt_id] += 1
    assert all(len(names) == 1 for names in splits.values()) and {"pool"} in splits.values() and {"calibration"} in splits.values()
    # Most rows stay: a new row takes the place of another only where its hash is smaller.
    assert sum(count > 1 for count in kept.values()) > len(kept) / 3


def test_the_share_that_belongs_to_no_split_takes_no_place() -> None:
    result = chosen([logged(text, i) for i, text in enumerate(TEXTS)], splits={"pool": 0.1}, max_rows=1000)
    assert all(split_of(row.prompt_id, {"pool": 0.1}) == "pool" for row in result.rows)
    assert result.left_out["in the share that belongs to no split"] > 200


def test_a_long_log_is_looked_at_in_part() -> None:
    rows = [logged(f"{text} number {n}", n) for n, text in enumerate(TEXTS)]
    rules = Rules(data(), INTAKE, frozenset(["CC0-1.0"]), candidates=20)
    result = choose(rows, source(max_rows=2), [], rules)
    assert len(result.rows) == 2 and sum(result.left_out.values()) == len(rows) - 2
    assert result.rows == choose(rows[::-1], source(max_rows=2), [], rules).rows


def test_novelty_is_zero_for_a_known_text_and_one_for_a_text_of_other_words() -> None:
    known = ["my card was declined in the shop", "how do I close my account"]
    values = novelty(["My card was declined in the shop!", "yeast makes bread rise", "how do I close my window"], known)
    assert values[0] == pytest.approx(0.0, abs=1e-9) and values[1] == 1.0 and 0.2 < values[2] < 0.8
    assert bands(values)[:2] == ["known", "new"]
    # One known word among many new ones makes no text a known one.
    assert novelty(["my yeast sourdough crumb oven starter flour"], known)[0] > 0.75
    assert list(novelty(["x"], [])) == [1.0] and len(novelty([], known)) == 0


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 50), min_size=1, max_size=8), st.integers(0, 200))
def test_shares_are_as_even_as_the_groups_allow(sizes: dict[str, int], total: int) -> None:
    taken = shares(sizes, total)
    assert sum(taken.values()) == min(total, sum(sizes.values())) and all(0 <= taken[key] <= sizes[key] for key in sizes)
    short = [taken[key] for key in sizes if taken[key] < sizes[key]]
    # Who gives less than it has gives as much as any other, but for the remainder.
    assert not short or min(short) >= max(taken.values()) - 1


def test_a_choice_within_groups_keeps_its_rows_when_it_grows() -> None:
    ids, keys = [f"id{n}" for n in range(100)], [("app", "new" if n % 3 else "known") for n in range(100)]
    assert set(spread(ids, keys, 10)) <= set(spread(ids, keys, 30)) and spread(ids, keys, 1000) == list(range(100))
