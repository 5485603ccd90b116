"""``redistill forget`` on a project without a cycle: what it finds, what it leaves to others, and how it goes on after it was killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from redistill.data.forgotten import Tombstone, bury, forgotten_digests, tombstone_digest
from redistill.data.traffic.shards import read_traffic, write_shards
from redistill.data.types import Message, Prompt
from redistill.io.parquet import read_records, write_records
from redistill.serving.traffic.lock import traffic_lock
from redistill.teacher.completion_store import CompletionStore
from tests.cycles import user_environment
from tests.logged import logged
from tests.tiny_project import ROOT, make_tiny_project

TRACES = ROOT / "docs" / "formats" / "traces"
TRAFFIC, POOL, REPORT = Path(".redistill/traffic"), Path("artifacts/prompts/pool.parquet"), Path("artifacts/report/report.json")
PENDING, STORE = Path(".redistill/forgotten/pending"), Path(".redistill/store/completions.sqlite")
SOURCES: list[dict[str, Any]] = [
    {"path": "labelled.jsonl", "splits": {"train": 0.6, "dev": 0.2, "heldout": 0.2}},
    {"path": "unlabelled.jsonl", "splits": {"pool": 0.8, "calibration": 0.2}},
    {"traffic": "router", "splits": {"pool": 1.0}},
    {"traffic": "traces", "splits": {"pool": 1.0}},
]
TEXTS = ("my passport was stolen in Rome", "please activate my card", "please activate my card now, I am in a hurry")


def prompt(text: str, source_id: str) -> Prompt:
    return Prompt.of((Message("user", text),), source_id, "app", None, "unlabelled.jsonl")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = make_tiny_project(tmp_path / "project", data__source=SOURCES)
    monkeypatch.chdir(made)
    list(write_shards(TRAFFIC, [logged(text, 1000.0 + n, id=f"request{n}") for n, text in enumerate(TEXTS)], 10))
    write_records(POOL, Prompt, [prompt(text, f"row{n}") for n, text in enumerate(TEXTS)])
    REPORT.parent.mkdir(parents=True)
    REPORT.write_text(
        json.dumps({"examples": [{"text": text} for text in TEXTS], "prompt_template": f"{TEXTS[1]} {{message}}"}), encoding="utf-8"
    )
    STORE.parent.mkdir(parents=True)
    CompletionStore(STORE).close()
    return made


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(Path(sys.executable).parent / "redistill"), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=user_environment(),
    )  # fmt: skip


def command(*arguments: str, code: int = 0) -> Any:
    process = started(*arguments)
    out, error = process.communicate(timeout=300)
    assert process.returncode == code, error
    return json.loads(out.splitlines()[-1]) if code == 0 else error


def forget(*arguments: str, code: int = 0) -> Any:
    return command("forget", *arguments, *(["--json"] if code == 0 else []), code=code)


def until(condition: Callable[[], bool], process: subprocess.Popen[str], limit_s: float = 120.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def requests(folder: Path = TRAFFIC) -> list[str]:
    return [row.id for row in read_traffic(folder)]


def test_only_whole_values_of_this_prompt_go(project: Path) -> None:
    settings = (project / "params.yaml").read_bytes()
    forget("request1", "--reason", "asked")
    assert requests() == ["request0", "request2"]
    assert [row.source_id for row in read_records(POOL, Prompt)] == ["row0", "row2"]
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    assert [example["text"] for example in report["examples"]] == [TEXTS[0], "[forgotten]", TEXTS[2]]
    assert report["prompt_template"] == f"{TEXTS[1]} {{message}}" and (project / "params.yaml").read_bytes() == settings


def test_a_text_that_other_prompts_have_too_is_left_to_them(project: Path) -> None:
    greeting = Message("user", "good morning to all of you"), Message("assistant", "how can I help?")
    rows = [logged(text, 2000.0 + n, id=f"long{n}", messages=(*greeting, Message("user", text))) for n, text in enumerate(TEXTS)]
    list(write_shards(TRAFFIC, rows, 10))
    REPORT.write_text(json.dumps([greeting[0].content, TEXTS[0]]), encoding="utf-8")
    notes = forget("long0", "--reason", "asked")["notes"]
    assert any(note.startswith("3 of its texts were left in pages and lists, because other prompts") for note in notes), notes
    assert json.loads(REPORT.read_text(encoding="utf-8")) == [greeting[0].content, TEXTS[0]]
    assert "long0" not in requests() and "request0" in requests()


def test_a_killed_command_is_completed_by_the_next_one(project: Path) -> None:
    with traffic_lock(TRAFFIC):
        process = started("forget", "request0", "--reason", "the first")
        until(Path("forgotten.jsonl").is_file, process)
        kill(process)
    [file] = PENDING.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(PENDING.stat().st_mode) == 0o700
    assert requests() == ["request0", "request1", "request2"] and "problem: 1; the next" in forget("--resume", "--dry-run")["notes"][0]
    with ExitStack() as lock, closing(sqlite3.connect(STORE)) as store:
        lock.enter_context(traffic_lock(TRAFFIC))
        process = started("forget", "request1", "--reason", "the second")
        until(lambda: len(forgotten_digests(Path("forgotten.jsonl"))) == 2, process)
        # Now the command waits for the traffic. Then it will wait for the store, so that it cannot end before it is killed.
        store.execute("BEGIN EXCLUSIVE")
        lock.close()
        until(lambda: requests() == ["request2"], process)
        kill(process)
    assert len(list(PENDING.iterdir())) == 2
    (PENDING / ".x.json.9.tmp").touch()  # of a command that was killed while it wrote
    result = forget("request1", "--reason", "once more")
    assert result["problems"] == [] and len(result["prompts"]) == 2 and "problem: 2; this one went on" in result["notes"][0]
    texts = [example["text"] for example in json.loads(REPORT.read_text(encoding="utf-8"))["examples"]]
    assert texts == ["[forgotten]", "[forgotten]", TEXTS[2]] and list(PENDING.iterdir()) == []
    assert [row.source_id for row in read_records(POOL, Prompt)] == ["row2"]
    assert "no prompt, row or request here is called 'request1'" in forget("request1", "--reason", "again", code=3)
    assert forget("--resume")["prompts"] == []


def test_the_command_says_what_is_missing(project: Path) -> None:
    assert "name a prompt: its id" in forget(code=2) and "give a reason with --reason" in forget("request0", code=2)
    PENDING.mkdir(parents=True)
    (PENDING / "x.json").write_text("{half", encoding="utf-8")
    error = forget("request0", "--reason", "asked", code=3)
    assert "pending/x.json is damaged" in error and "delete the file" in error and len(error.splitlines()) == 1
    assert not Path("forgotten.jsonl").exists() and requests() == ["request0", "request1", "request2"]


def test_imported_rows_go_from_every_folder_and_do_not_come_back(project: Path) -> None:
    file, options = str(TRACES / "openai.jsonl"), ("--format", "openai", "--consent", "terms", "--licence", "CC0-1.0", "--json")
    for folder in ("traces", "elsewhere"):
        assert command("traffic", "import", file, "--into", folder, *options)["rows"] == 2
    row, other = read_traffic(Path("traces"))
    result = forget(row.id, "--reason", "asked")
    assert result["prompts"] == [row.prompt_id] and len(result["traffic"]) == 2
    for folder in ("traces", "elsewhere"):
        assert requests(Path(folder)) == [other.id]
        again = command("traffic", "import", file, "--into", folder, *options)
        assert (again["rows"], again["already_there"], again["left_out"]) == (0, 1, {"removed before with `redistill forget`": 1})
        assert requests(Path(folder)) == [other.id]


def test_a_cache_outside_of_the_project_is_named_and_changed_only_on_request(project: Path) -> None:
    cache = project.parent / "cache"
    (project / ".dvc").mkdir()
    (project / ".dvc/config").write_text(f"[cache]\n    dir = {cache}\n", encoding="utf-8")
    held, other = (cache / "files/md5" / digest[:2] / digest[2:] for digest in ("a" * 32, "b" * 32))
    write_records(held, Prompt, [prompt(TEXTS[0], "row0"), prompt(TEXTS[1], "row1")])
    write_records(other, Prompt, [prompt(TEXTS[2], "row2")])
    problem = forget("request0", "--reason", "asked", code=3)
    assert "1 place still has it" in problem and "redistill forget --resume" in problem
    assert str(cache) in problem and str(held) in problem and str(other) not in problem and held.is_file()
    assert requests() == ["request1", "request2"] and len(list(PENDING.iterdir())) == 1
    assert forget("--resume", "--outside-cache")["problems"] == [] and not held.exists() and other.is_file()
    assert list(PENDING.iterdir()) == []


def test_a_prompt_with_a_tombstone_that_is_here_again_goes(project: Path) -> None:
    bury(Path("forgotten.jsonl"), Tombstone(tombstone_digest(prompt(TEXTS[0], "").id), "2026-01-01T00:00:00+00:00", "asked"))
    assert forget("--resume")["prompts"] == [prompt(TEXTS[0], "").id] and requests() == ["request1", "request2"]


def test_a_text_that_is_too_large_is_named(project: Path) -> None:
    large = Path("artifacts/large.log")
    with open(large, "wb") as handle:
        handle.write(b"a line of text\n" * 1000)
        handle.truncate((256 << 20) + 1)
    notes = forget("request0", "--reason", "asked")["notes"]
    assert any(note.startswith("not read, because text over 256 MiB") and str(large) in note for note in notes), notes


def test_an_older_backup_brings_nothing_back_unseen(project: Path) -> None:
    archive = str(project.parent / "older.tar.gz")
    # A backup leaves out what stages make, and has the logged requests.
    command("backup", archive, "--json")
    forget("request0", "--reason", "asked")
    notes = command("restore", archive, "--force", "--json")["notes"]
    digest = tombstone_digest(prompt(TEXTS[0], "").id)
    assert any(note.startswith("prompts that were removed after this archive was made: 1.") and digest[:12] in note for note in notes), (
        notes
    )
    assert requests() == ["request0", "request1", "request2"] and forgotten_digests(Path("forgotten.jsonl")) == {digest}
    assert forget("--resume")["prompts"] == [prompt(TEXTS[0], "").id] and requests() == ["request1", "request2"]
