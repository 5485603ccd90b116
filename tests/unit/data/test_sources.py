from __future__ import annotations

import csv
import gzip
import json
import re
import socket
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redistill.data.params import ColumnParams, DataParams, RecordParams, SourceParams
from redistill.data.sources import load, source_lock, split_of
from redistill.data.types import SPLITS, Message, prompt_id
from redistill.errors import DataError

RECORD = RecordParams(labels=("fee", "pin"), flags=("urgent",), entities=("amount",))
TRAIN = {"train": 1.0}
POOL = {"pool": 1.0}


def data(*sources: tuple[str, dict[str, float]], **others: Any) -> DataParams:
    given: dict[str, Any] = {"name": "x", "task": "record", "record": RECORD, **others}
    return DataParams(source=tuple(SourceParams(path=path, splits=splits) for path, splits in sources), **given)


def write_jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_formats_agree(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": 'said "no",\nthen left', "label": "fee", "slice": "app"},
        {"id": "b", "text": "£5 fee \U0001f643", "label": "fee; amount=£5", "slice": ""},
    ]
    write_jsonl(tmp_path / "rows.jsonl", *rows)
    with open(tmp_path / "rows.CSV", "w", newline="", encoding="utf-8-sig") as handle:
        writer = csv.DictWriter(handle, ["id", "text", "label", "slice"])
        writer.writeheader()
        writer.writerows(rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    read = [load(data((name, TRAIN)), tmp_path)["train"] for name in ("rows.jsonl", "rows.CSV", "rows.parquet")]
    said = [[(p.source_id, p.text, p.label, p.slice, p.planted) for p in prompts] for prompts in read]
    assert said[0] == [("a", 'said "no",\nthen left', "fee", "app", None), ("b", "£5 fee \U0001f643", "fee; amount=£5", "all", None)]
    assert said[1] == said[0] and said[2] == said[0]
    assert {p.source for p in read[1]} == {"rows.CSV"}


def test_columns_ids_and_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "chat.jsonl").write_text(
        '{"body": "my pin", "y": "pin", "n": 7, "planted": "x"}\n\n{"body": "a\u2028b", "y": "pin"}\n', encoding="utf-8"
    )
    columns = ColumnParams(text="body", label="y", id="n")
    prompts = load(data(("chat.jsonl", TRAIN), columns=columns), tmp_path)["train"]
    assert [(p.source_id, p.text, p.label, p.planted) for p in prompts] == [
        ("7", "my pin", "pin", "x"),
        ("chat:3", "a\u2028b", "pin", None),
    ]


def test_messages(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "my pin?"}]
    write_jsonl(tmp_path / "a.jsonl", {"messages": turns})
    (prompt,) = load(data(("a.jsonl", POOL), format="chat"), tmp_path)["pool"]
    assert prompt.messages == (Message("system", "Be kind."), Message("user", "my pin?"))
    assert prompt.id == prompt_id(prompt.messages)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"", "a.jsonl is empty"),
        ("a.jsonl", b"\n \n", "a.jsonl has no rows"),
        ("a.csv", b"text,label\n", "a.csv has no rows"),
        ("a.txt", b"hello", "a.txt: unknown extension '.txt'; redistill reads .jsonl, .csv, .parquet"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "a.jsonl, line 2: invalid JSON"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl, line 1: invalid JSON"),
        ("a.jsonl", b'{"text": ' + b"9" * 5000 + b"}", "a.jsonl, line 1: invalid JSON"),
        ("a.jsonl", b'["x"]\n', "a.jsonl, line 1: a list of 1 is not a JSON object"),
        (
            "a.jsonl",
            b'{"text": "x"}\n\n{"body": "x", "id": 1}\n',
            "a.jsonl, line 3: no 'text' and no 'messages', 'conversations', 'instruction' (the row has body, id)",
        ),
        ("a.jsonl", b'{"text": null}', "a.jsonl, line 1: no 'text'"),
        ("a.jsonl", b'{"text": 5}', "a.jsonl, line 1: 'text' must be text, not a whole number"),
        ("a.jsonl", b'{"text": ["x"]}', "a.jsonl, line 1: 'text' must be text, not a list of 1"),
        ("a.jsonl", b'{"text": "\\ud800"}', "a.jsonl, line 1: a text of 1 character contains an incomplete Unicode character"),
        ("a.jsonl", b'{"text": "ok"}\n{"text": "caf\xe9"}\n', "a.jsonl, line 2: byte 28 is not UTF-8; save the file as UTF-8"),
        ("a.jsonl", "{}".encode("utf-16"), "a.jsonl, line 1: no 'text'"),
        ("a.jsonl", "{}".encode("utf-16")[:-1], "a.jsonl: byte 4 is not UTF-16, as its first bytes say"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x", "label": "fee"}\n' * 99, mtime=0)[:-9], "a.jsonl.gz is not a complete gzip file"),
        ("a.jsonl", b'{"text": "x", "label": "fee", "text": "y"}', "a.jsonl, line 1: key 'text' is there twice in one object"),
        ("a.csv", b"text,label,text\nx,fee,y\n", "a.csv, line 1: the column text is there 2 times (columns 1, 3)"),
        ("a.csv", b"text,label,,\nx,fee,,\ny,fee,more,\n", "a.csv, line 3: it has a value in a column without a name"),
        (
            "a.jsonl",
            b'{"text": "short", "messages": [{"role": "user", "content": "x"}]}',
            "a.jsonl, line 1: the row has 'text' and 'messages'",
        ),
        ("a.csv", b"id,text,label\n1,x,fee\n2,a text\nwith a break,fee\n", "a.csv, line 3: 2 fields, but the header has 3"),
        ("a.csv", b"text\nok\ncaf\xe9\n", "a.csv, line 3: byte 11 is not UTF-8"),
        ("a.csv", b'text\n"ab\nc"\nx,y\n', "a.csv, line 4: 2 fields, but the header has 1"),
        ("a.csv", b'text\nok\n"open\n', "a.csv, line 3: invalid CSV"),
        ("a.parquet", b"PAR1 this is no table", "a.parquet is not a complete Parquet file"),
        ("a.jsonl", b'{"text": "x", "id": 1.5}', "a.jsonl, line 1: id must be text or a whole number, not a decimal number"),
        ("a.jsonl", b'{"text": "x", "label": ["fee"]}', "a.jsonl, line 1: label must be text or a whole number, not a list of 1"),
        (
            "a.jsonl",
            b'{"text": "x", "label": "fees"}',
            "a.jsonl, line 1: the label is wrong: a text of 4 characters is no listed label (did you mean 'fee'?); known labels: fee, pin",
        ),
        (
            "a.jsonl",
            b'{"text": "x", "label": "fee; amount=5"}',
            "a.jsonl, line 1: the label is wrong: the value of entity amount (a text of 1 character) does not occur",
        ),
        ("a.jsonl", b'{"text": "x"}', "a.jsonl, line 1: a row without 'label' belongs to split train, which needs labels"),
        ("a.jsonl", b'{"text": "", "label": " "}', "a.jsonl, line 1: a row without 'label' belongs to split train"),
        ("a.jsonl", b'{"messages": []}', "a.jsonl, line 1: messages must be a list of objects, one for each turn"),
        ("a.jsonl", b'{"messages": "hi"}', "a.jsonl, line 1: messages must be a list of objects"),
        ("a.jsonl", b'{"messages": [{"role": "bot", "content": "x"}]}', "a.jsonl, line 1: the role bot is unknown"),
        ("a.jsonl", b'{"messages": [{"role": "assistant", "content": "x"}]}', "a.jsonl, line 1: the conversation asks nothing"),
        (
            "a.jsonl",
            b'{"text": "x", "id": "q", "label": "fee"}\n{"text": "y", "id": "q", "label": "fee"}',
            "a.jsonl, line 2: its id is already used in a.jsonl, line 1",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        load(data((name, TRAIN)), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "encode", [lambda raw: raw, gzip.compress, lambda raw: raw.decode().encode("utf-16"), lambda raw: b"\xef\xbb\xbf" + raw]
)
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_text_files_as_people_have_them(tmp_path: Path, encode: Any, ending: str) -> None:
    """gzip, UTF-16 with its mark and UTF-8 with its mark; lines as three systems end them."""
    compressed = ".gz" if encode is gzip.compress else ""
    (tmp_path / f"a.csv{compressed}").write_bytes(encode(f'text,label{ending}"a, ""b""",fee{ending}é £5,pin'.encode()))
    prompts = load(data((f"a.csv{compressed}", TRAIN)), tmp_path)["train"]
    assert [(p.text, p.label) for p in prompts] == [('a, "b"', "fee"), ("é £5", "pin")]
    if ending == "\r":
        return
    (tmp_path / f"a.jsonl{compressed}").write_bytes(
        encode(f'{{"text": "a", "label": "fee"}}{ending}{{"text": "é", "label": "pin"}}'.encode())
    )
    prompts = load(data((f"a.jsonl{compressed}", TRAIN)), tmp_path)["train"]
    assert [(p.source_id, p.text) for p in prompts] == [("a:1", "a"), ("a:2", "é")]


def test_empty_columns_and_lines_of_a_spreadsheet_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label,,\nx,fee,,\n,,,\n  \ny,pin,,\n", encoding="utf-8")
    assert [(p.source_id, p.text, p.label) for p in load(data(("a.csv", TRAIN)), tmp_path)["train"]] == [
        ("a:2", "x", "fee"),
        ("a:5", "y", "pin"),
    ]
    (tmp_path / "b.csv").write_text("text\n \nx\n\n", encoding="utf-8")
    assert [p.text for p in load(data(("b.csv", POOL)), tmp_path)["pool"]] == [" ", "x"], "in a file of one column, spaces are a text"


def test_a_misspelt_text_column_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", {"body": "my card", "instruction": "Sort it:", "output": "fee"})
    with pytest.raises(DataError, match=r"data\.columns\.text names the column 'bodi', but no row of a\.jsonl has it; did you mean 'body'"):
        load(data(("a.jsonl", TRAIN), columns=ColumnParams(text="bodi")), tmp_path)


def test_ids_that_rows_lack_tell_files_of_one_name_apart(tmp_path: Path) -> None:
    for folder in ("2023", "2024"):
        (tmp_path / folder).mkdir()
        write_jsonl(tmp_path / folder / "tickets.jsonl", {"text": f"my fee in {folder}", "label": "fee"})
    write_jsonl(tmp_path / "others.jsonl", {"text": "my pin", "label": "pin"})
    prompts = load(data(("2023/tickets.jsonl", TRAIN), ("2024/tickets.jsonl", TRAIN), ("others.jsonl", TRAIN)), tmp_path)["train"]
    assert [p.source_id for p in prompts] == ["2023/tickets.jsonl:1", "2024/tickets.jsonl:1", "others:1"]


def test_columns_that_params_name_are_there(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", {"text": "x", "label": "fee", "channel": "app"})
    with pytest.raises(
        DataError, match=r"data\.columns\.slice names the column 'chanel', but no row of a\.jsonl has it; did you mean 'channel'\?"
    ):
        load(data(("a.jsonl", TRAIN), columns=ColumnParams(slice="chanel")), tmp_path)
    with pytest.raises(
        DataError, match=r"data\.prompt_template names the column 'product', but no row of a\.jsonl has it; the columns are"
    ):
        load(data(("a.jsonl", TRAIN), prompt_template="{product}: {text}"), tmp_path)
    write_jsonl(tmp_path / "b.jsonl", {"text": "y", "label": "fee"})
    splits = load(data(("a.jsonl", TRAIN), ("b.jsonl", TRAIN), columns=ColumnParams(slice="channel")), tmp_path)
    assert [p.slice for p in splits["train"]] == ["app", "all"], "one source has the column"


def test_what_the_template_shows_decides_which_prompt_it_is(tmp_path: Path) -> None:
    write_jsonl(
        tmp_path / "a.jsonl",
        {"text": "it is broken", "product": "card", "label": "fee"},
        {"text": "it is broken", "product": 7, "label": "pin"},
    )
    alike = load(data(("a.jsonl", TRAIN)), tmp_path)["train"]
    apart = load(data(("a.jsonl", TRAIN), prompt_template="{product}: {text}"), tmp_path)["train"]
    assert alike[0].id == alike[1].id == prompt_id((Message("user", "it is broken"),)), "as before"
    assert apart[0].id != apart[1].id and apart[0].id not in {alike[0].id}
    assert [p.text for p in apart] == ["it is broken\ncard", "it is broken\n7"]
    with pytest.raises(ValueError, match=r"prompt_template shows \{label\}, the label"):
        data(("a.jsonl", TRAIN), prompt_template="{text} is {label}")
    with pytest.raises(ValueError, match=r"must contain \{text\}"):
        data(("a.jsonl", TRAIN), prompt_template="{{text}}")


def test_missing_files_and_directories(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(DataError, match=r"no\.jsonl is missing; correct data\.source"):
        load(data(("no.jsonl", TRAIN)), tmp_path)
    with pytest.raises(DataError, match=r"folder\.jsonl is a directory, not a file"):
        load(data(("folder.jsonl", TRAIN)), tmp_path)
    with pytest.raises(DataError, match=r"no\.jsonl is missing"):
        source_lock(data(("no.jsonl", TRAIN)), tmp_path)


def test_ids_are_unique_over_sources(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", {"text": "x", "id": "q"})
    write_jsonl(tmp_path / "b.jsonl", {"text": "y"}, {"text": "z", "id": "q"})
    with pytest.raises(DataError, match=r"b\.jsonl, line 2: its id is already used in a\.jsonl, line 1"):
        load(data(("a.jsonl", POOL), ("b.jsonl", POOL)), tmp_path)


def test_equal_and_empty_texts_are_left_to_intake(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", {"text": "x"}, {"text": "x"}, {"text": ""})
    prompts = load(data(("a.jsonl", POOL)), tmp_path)["pool"]
    assert [(p.source_id, p.text) for p in prompts] == [("a:1", "x"), ("a:2", "x"), ("a:3", "")]


def test_pool_rows_lose_their_labels_but_wrong_ones_are_told(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", *({"text": f"fee {i}", "label": "fee", "planted": "p"} for i in range(40)))
    splits = load(data(("a.jsonl", {"pool": 0.4, "calibration": 0.3, "dev": 0.3})), tmp_path)
    assert list(splits) == list(SPLITS)
    assert {p.label for p in splits["pool"]} == {None}
    assert {p.label for p in splits["calibration"] + splits["dev"]} == {"fee"}, "a label of a calibration row is compared with"
    assert {p.planted for rows in splits.values() for p in rows} == {"p"}
    write_jsonl(tmp_path / "a.jsonl", {"text": "x", "label": "typo"})
    with pytest.raises(DataError, match="no listed label"):
        load(data(("a.jsonl", POOL)), tmp_path)


def test_labels_are_spelled_one_way_and_free_for_generation(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", {"text": "x", "label": " fee; urgent "}, {"text": "y", "label": "pin"})
    assert [p.label for p in load(data(("a.jsonl", TRAIN)), tmp_path)["train"]] == ["fee; urgent", "pin"]
    write_jsonl(tmp_path / "a.jsonl", {"text": "x", "label": "anything at all"}, {"text": "y", "label": 3})
    assert [p.label for p in load(data(("a.jsonl", TRAIN), task="generation", record=None), tmp_path)["train"]] == ["anything at all", "3"]


def test_rows_never_move_when_a_source_grows(tmp_path: Path) -> None:
    rows = [{"text": f"message {i}", "label": "fee"} for i in range(400)]
    shares = {"heldout": 0.2, "train": 0.3, "pool": 0.3}
    write_jsonl(tmp_path / "a.jsonl", *rows[:200])
    before = load(data(("a.jsonl", shares)), tmp_path)
    write_jsonl(tmp_path / "a.jsonl", *reversed(rows))
    after = load(data(("a.jsonl", shares)), tmp_path)
    for name in SPLITS:
        assert {p.id for p in before[name]} <= {p.id for p in after[name]}
        assert abs(len(after[name]) - 400 * shares.get(name, 0)) < 40
    assert sum(map(len, after.values())) < 400, "the share beyond the sum is left out"


def test_split_edges() -> None:
    shares = {"heldout": 0.5, "train": 0.5}
    assert split_of("00000000ff", shares) == "train"
    assert split_of("7fffffffff", shares) == "train"
    assert split_of("80000000ff", shares) == "heldout"
    assert split_of("ffffffffff", shares) == "heldout"
    assert split_of("ffffffffff", {"train": 0.1, "dev": 0.2, "pool": 0.7 - 1e-12, "heldout": 0.0}) == "pool"
    assert split_of("80000000ff", {"train": 0.5}) is None


def test_max_rows_is_a_stable_subset_that_keeps_the_shares(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", *({"text": f"message {i}", "label": "fee"} for i in range(600)))
    shares = {"train": 0.5, "heldout": 0.5}
    small, large = (load(data(("a.jsonl", shares), max_rows=n), tmp_path) for n in (100, 200))
    assert sum(map(len, small.values())) == 100
    assert {p.id for p in small["train"]} <= {p.id for p in large["train"]}
    assert 30 < len(small["train"]) < 70
    assert [int(p.source_id.split(":")[1]) for p in large["train"]] == sorted(int(p.source_id.split(":")[1]) for p in large["train"])
    write_jsonl(tmp_path / "b.jsonl", {"text": "other", "label": "pin"})
    assert sum(map(len, load(data(("a.jsonl", shares), ("b.jsonl", TRAIN), max_rows=100), tmp_path).values())) == 101


def test_a_huge_text_is_no_error_and_not_slow(tmp_path: Path) -> None:
    text = "word " * 600_000
    write_jsonl(tmp_path / "a.jsonl", {"text": text})
    (tmp_path / "b.csv").write_text(f"text\n{text}\n", encoding="utf-8")
    began = time.monotonic()
    prompts = load(data(("a.jsonl", POOL), ("b.csv", POOL)), tmp_path)["pool"]
    assert [len(p.text) for p in prompts] == [3_000_000, 3_000_000]
    assert time.monotonic() - began < 5
    assert csv.field_size_limit() < 3_000_000, "a setting of the whole process must not stay changed"


def test_lock_holds_digests_of_what_was_read(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", {"text": "x"})
    first = source_lock(data(("a.jsonl", POOL)), tmp_path)
    assert first["sources"][0].keys() == {"path", "revision", "sha256"}
    assert first == source_lock(data(("a.jsonl", POOL)), tmp_path)
    write_jsonl(tmp_path / "a.jsonl", {"text": "y"})
    assert source_lock(data(("a.jsonl", POOL)), tmp_path) != first


def test_configurations_of_a_hub_data_set(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    for name, text in (("app", "my pin"), ("phone", "a fee")):
        write_jsonl(tmp_path / "hub" / f"{name}.jsonl", {"text": text, "label": "fee"})
    configs = "".join(f"- config_name: {name}\n  data_files: {name}.jsonl\n" for name in ("app", "phone"))
    (tmp_path / "hub" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    splits = load(data(("hf:./hub#phone", TRAIN), ("hf:./hub#app:train", TRAIN)), tmp_path)
    assert [(p.source_id, p.text) for p in splits["train"]] == [("hub-phone:1", "a fee"), ("hub-app-train:1", "my pin")]
    with pytest.raises(DataError, match=r"hf:\./hub: the datasets library cannot read it .*Config name is missing"):
        load(data(("hf:./hub", TRAIN)), tmp_path)


def test_a_directory_in_hub_layout_is_read_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a local data set must not open a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)  # HF_HUB_OFFLINE is set in conftest
    (tmp_path / "hub" / "data").mkdir(parents=True)
    (tmp_path / "hub" / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n    dtype:\n      class_label:\n        names:\n"
        "          '0': fee\n          '1': pin\n---\n"
    )
    table = pa.table({"text": ["my pin", "a fee", "a row without label"], "label": pa.array([1, 0, -1], pa.int64())})
    pq.write_table(table.slice(0, 2), tmp_path / "hub" / "data" / "train-00000-of-00001.parquet")
    pq.write_table(table.slice(2, 1), tmp_path / "hub" / "data" / "test-00000-of-00001.parquet")
    given = data((f"hf:{tmp_path / 'hub'}", TRAIN), ("hf:./hub:test", POOL))
    splits = load(given, tmp_path)
    assert [(p.source_id, p.text, p.label) for p in splits["train"]] == [("hub:1", "my pin", "pin"), ("hub:2", "a fee", "fee")]
    assert [(p.source_id, p.text, p.label) for p in splits["pool"]] == [("hub-test:1", "a row without label", None)]
    entries = source_lock(given, tmp_path)["sources"]
    assert entries[0]["sha256"] == entries[1]["sha256"]
    with pytest.raises(DataError, match=r"hf:\./hub:nosuch: the datasets library cannot read it \(ValueError: Bad split: nosuch"):
        load(data(("hf:./hub:nosuch", POOL)), tmp_path)
    with pytest.raises(DataError, match=r"hf:\./gone: the directory"):
        load(data(("hf:./gone", POOL)), tmp_path)
    with pytest.raises(
        DataError, match=r"hf:owner/name@main: the datasets library cannot read it .* check id, revision, split and network"
    ):
        load(data(("hf:owner/name@main", POOL)), tmp_path)


CARD = "4111 1111 1111 1111"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", json.dumps([CARD])),
        ("a.jsonl", json.dumps({"text": [CARD]})),
        ("a.jsonl", json.dumps({"text": "x", "label": {"a": CARD}})),
        ("a.jsonl", json.dumps({"text": "x", "label": CARD})),
        ("a.jsonl", json.dumps({"text": "x", "id": [CARD]})),
        ("a.jsonl", json.dumps({"text": CARD + "\ud800"})),
        ("a.jsonl", json.dumps({"messages": [{"role": CARD, "content": "x"}]})),
        ("a.jsonl", "".join(json.dumps({"text": t, "label": "fee", "id": CARD}) + "\n" for t in "xy")),
        ("a.csv", f"{CARD},John\nhello,fee\n"),
        ("a.csv", f"{CARD},{CARD}\nhello,fee\n"),
    ],
)
def test_no_error_about_a_row_quotes_its_values(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    grammar = RecordParams(labels=("fee", "pin"))
    data = DataParams(name="t", task="classification", record=grammar, source=(SourceParams(path=name, splits={"train": 1.0}),))
    with pytest.raises(DataError) as caught:
        load(data, tmp_path)
    assert "4111" not in str(caught.value) and name in str(caught.value)
