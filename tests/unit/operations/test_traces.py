"""What files hold of a prompt is seen and removed, and everything else of them stays."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest

from redistill.data.types import Message, Prompt
from redistill.evaluation.types import Outcome, PairOutcome
from redistill.io.parquet import read_records, write_records
from redistill.io.sealed import seal, unseal
from redistill.operations.traces import MOST_BYTES, Traces, holds, remove, too_large
from redistill.operations.traces_in_text import REMOVED

TEXT = 'he said "my card\'s code\nis lost" & left'
PROMPT = Prompt.of((Message("user", TEXT),), "row 1", "app", "card", "x")
OTHER = Prompt.of((Message("user", "another text of the same length"),), "row 2", "app", "fee", "x")
TRACES = Traces(frozenset({PROMPT.id}), (TEXT,))


def outcome(prompt: Prompt) -> Outcome:
    return Outcome(prompt.id, "doc", "p", "app", "card", "card", True, 1, 0, 0)


def test_rows_go_by_their_id_and_pairs_by_their_text(tmp_path: Path) -> None:
    prompts, outcomes, pairs = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    write_records(prompts, Prompt, [PROMPT, OTHER])
    write_records(outcomes, Outcome, [outcome(OTHER), outcome(PROMPT)])
    pair = [PairOutcome(str(n), "name", text, (text, text), ("card", "card")) for n, text in enumerate((TEXT, "another"))]
    write_records(pairs, PairOutcome, pair)
    for file, kind, kept in ((prompts, Prompt, [OTHER]), (outcomes, Outcome, [outcome(OTHER)]), (pairs, PairOutcome, pair[1:])):
        assert holds(file, TRACES) and remove(file, TRACES) and not holds(file, TRACES)
        assert read_records(file, kind) == kept
        before = file.read_bytes()
        assert not remove(file, TRACES) and file.read_bytes() == before


def test_texts_go_from_pages_and_lists_as_each_spells_them(tmp_path: Path) -> None:
    page, report, lines = tmp_path / "index.html", tmp_path / "report.json", tmp_path / "x.jsonl"
    page.write_text(
        f"<p>{html.escape(TEXT)}</p><p>{html.escape(TEXT).replace('&quot;', '&#34;').replace('&#x27;', '&#39;')}</p>", encoding="utf-8"
    )
    report.write_text(json.dumps({"examples": [{"text": TEXT}], "rows": [{"prompt_id": PROMPT.id}, {"prompt_id": "b"}]}), encoding="utf-8")
    lines.write_text("".join(json.dumps({"prompt_id": each.id, "n": 1}) + "\n" for each in (PROMPT, OTHER)), encoding="utf-8")
    for file in (page, report, lines):
        assert holds(file, TRACES) and remove(file, TRACES) and not holds(file, TRACES)
    assert page.read_text(encoding="utf-8") == f"<p>{REMOVED}</p><p>{REMOVED}</p>"
    assert json.loads(report.read_text(encoding="utf-8")) == {"examples": [{"text": REMOVED}], "rows": [{"prompt_id": "b"}]}
    assert [json.loads(line)["prompt_id"] for line in lines.read_text(encoding="utf-8").splitlines()] == [OTHER.id]


def test_sealed_results_stay_sealed(tmp_path: Path) -> None:
    file = tmp_path / "results.sealed"
    seal(file, json.dumps({"report": {"n": 2}, "outcomes": [{"prompt_id": PROMPT.id}, {"prompt_id": "b"}]}).encode())
    assert remove(file, TRACES)
    assert json.loads(unseal(file)) == {"report": {"n": 2}, "outcomes": [{"prompt_id": "b"}]}


def test_a_text_inside_of_other_texts_stays(tmp_path: Path) -> None:
    traces = Traces(frozenset({PROMPT.id}), ("activate my card please",))
    content = "now activate my card please and send me a new one"
    files = {
        "report.json": json.dumps({"examples": [{"text": content}], "prompt_template": "activate my card please {message}"}),
        "x.jsonl": json.dumps({"text": content}) + "\n",
        "index.html": f"<p title='activate my card please'>{content}</p><script>x = 'activate my card please'</script>",
        "service.log": f"12:00 {content}\n",
        "notes.md": f"- {content}\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert not holds(tmp_path / name, traces) and not remove(tmp_path / name, traces)
        assert (tmp_path / name).read_text(encoding="utf-8") == text
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 200_000 + f'"{content}"' + "]" * 200_000, encoding="utf-8")
    assert not remove(deep, traces)
    pairs, pair = tmp_path / "pairs", PairOutcome("1", "name", content, (content, content), ("card", "card"))
    write_records(pairs, PairOutcome, [pair])
    assert not remove(pairs, traces) and read_records(pairs, PairOutcome) == [pair]


def test_a_whole_value_goes_however_its_spaces_are_written(tmp_path: Path) -> None:
    traces = Traces(frozenset({PROMPT.id}), ("please  activate\nmy card",))
    for name, before, after in (
        (
            "a.json",
            '{"n": 1e-05, "text": "please activate my card", "kept": [1, 2]}',
            '{"n": 1e-05, "text": "[forgotten]", "kept": [1, 2]}\n',
        ),
        ("b.jsonl", '{"t": "please\\n activate my card"}\n{"t":"x"}\n', '{"t": "[forgotten]"}\n{"t":"x"}\n'),
        ("c.html", "<dd>\n please activate\nmy card </dd><p>and</p>", "<dd>[forgotten]</dd><p>and</p>"),
        ("half.json", '["please activate my card", "\\ud800"]', '["[forgotten]", "\\ud800"]\n'),
        ("d.log", "one\nplease activate my card\ntwo\n", "one\n[forgotten]\ntwo\n"),
    ):
        (tmp_path / name).write_text(before, encoding="utf-8")
        assert remove(tmp_path / name, traces), name
        assert (tmp_path / name).read_text(encoding="utf-8") == after


@pytest.mark.parametrize(
    "name", ["params.yaml", "teacher.lock.json", "dvc.lock", "dvc.yaml", "judgement.json", "calibration.json", "flags.json", "step.py"]
)
def test_settings_locks_verdicts_and_code_are_never_changed(tmp_path: Path, name: str) -> None:
    text = json.dumps({"prompt_template": TEXT, "rows": [{"prompt_id": PROMPT.id}]})
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert not remove(tmp_path / name, TRACES) and (tmp_path / name).read_text(encoding="utf-8") == text
    (tmp_path / "other.json").write_text(text, encoding="utf-8")
    assert remove(tmp_path / "other.json", TRACES)


def test_a_text_that_is_too_large_to_be_read_is_named(tmp_path: Path) -> None:
    log, weights, small = tmp_path / "x.log", tmp_path / "weights", tmp_path / "small.log"
    for file, begin in ((log, b"a line of text\n" * 1000), (weights, b"\0\1" * 8000)):
        with open(file, "wb") as handle:
            handle.write(begin)
            handle.truncate(MOST_BYTES + 1)
    small.write_text("a line of text\n", encoding="utf-8")
    assert [too_large(file) for file in (log, weights, small, tmp_path / "missing")] == [True, False, False, False]


def test_a_short_text_is_not_cut_out_of_others_and_other_files_stay(tmp_path: Path) -> None:
    page, weights, empty = tmp_path / "a.html", tmp_path / "w.safetensors", tmp_path / "empty"
    page.write_text("<p>card</p>", encoding="utf-8")
    weights.write_bytes(b"\0\1" * 100 + TEXT.encode())
    empty.touch()
    for file in (page, weights, empty):
        assert not remove(file, Traces(frozenset({PROMPT.id}), ("card", TEXT)))
