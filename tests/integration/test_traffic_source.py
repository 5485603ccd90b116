"""Traffic comes home: a project prepares from labelled rows and logged prompts, the log grows, and everything that was decided before still holds."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from redistill.data.traffic.shards import read_traffic, shards, write_shards
from redistill.data.traffic.types import LoggedRequest
from redistill.data.types import SPLITS, Prompt
from redistill.errors import ConfigError, DataError
from redistill.io.json import read_json
from redistill.io.parquet import read_records, write_records
from redistill.params import load_params
from tasks.locking.teacher_lock import lock_sources
from tasks.operations.backup.files import collected
from tasks.operations.kept.bundle_names import Names, names_in
from tasks.reporting.reproduce import bring_inputs
from tasks.reporting.verify_lineage import input_links
from tests.cycles import user_environment
from tests.logged import logged
from tests.tiny_project import ROOT, make_tiny_project, write_params

TRACES = ROOT / "docs" / "formats" / "traces"
BIN = Path(sys.executable).parent
SOURCES: list[dict[str, Any]] = [
    {"path": "labelled.jsonl", "splits": {"train": 0.6, "dev": 0.2, "heldout": 0.2}},
    {"path": "unlabelled.jsonl", "splits": {"pool": 0.8, "calibration": 0.2}},
    {"traffic": "router", "splits": {"pool": 0.7, "calibration": 0.3}, "max_rows": 30},
    {"traffic": ".redistill/imports", "splits": {"pool": 1.0}},
]
THINGS = ["passport", "umbrella", "bicycle", "ladder", "kettle", "violin", "compass", "lantern"]
ASKS = [
    "Can I insure my {} through the bank if it is stolen while I travel abroad?",
    "Someone sold me a broken {} online and the seller ignores all of my mails",
    "I would like to pay for a {} in three parts, which plan do you offer?",
    "The shop that sold me a {} went bankrupt before the delivery arrived",
]
TEXTS = [ask.format(thing) for thing in THINGS for ask in ASKS]
STUDENT = "the words of a student"


def rows(begin: int, end: int) -> list[LoggedRequest]:
    return [
        logged(text, 1000.0 + n, slice=("app", "mail")[n % 2], student=STUDENT, teacher="fee")
        for n, text in enumerate(TEXTS[begin:end], begin)
    ]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = user_environment() | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    return subprocess.run([str(BIN / arguments[0]), *arguments[1:]], capture_output=True, text=True, check=False, env=environment)


def imported(file: Path, format: str, *options: str) -> dict[str, Any]:
    done = command(
        "redistill", "traffic", "import", str(file), "--format", format, "--consent", "terms", "--licence", "CC0-1.0", "--json", *options
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def prepared() -> dict[str, list[Prompt]]:
    done = command("dvc", "repro", "--single-item", "prepare")
    assert done.returncode == 0, done.stdout + done.stderr
    return {split: read_records(Path("artifacts/prompts") / f"{split}.parquet", Prompt) for split in SPLITS}


def traffic_splits(splits: dict[str, list[Prompt]]) -> dict[str, str]:
    return {prompt.id: split for split, prompts in splits.items() for prompt in prompts if prompt.source.startswith("traffic:")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = make_tiny_project(tmp_path_factory.mktemp("traffic") / "made", data__source=SOURCES)
    list(write_shards(project / ".redistill" / "traffic", rows(0, 16), 8))
    with contextlib.chdir(project):
        imported(TRACES / "openai.jsonl", "openai", "--slice-by", "channel")
        assert command("dvc", "init", "--no-scm", "-q").returncode == 0
        # A stage alone needs the lock of the code.
        assert command("redistill", "stage", "lock_code").returncode == 0
    return project


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_traffic_comes_home_and_nothing_moves_when_more_comes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = load_params()
    lock_sources(params)
    assert "[lock] traffic:router: 16 of 16 logged rows taken: app " in capsys.readouterr().out
    before = prepared()
    home = traffic_splits(before)
    assert len(home) == 18 and set(home.values()) == {"pool", "calibration"}
    # Only prompts come home: no completion, of a student or of anything else, is a label or a row.
    assert all(prompt.label is None for prompt in before["pool"]) and STUDENT not in repr(before)
    assert STUDENT not in repr([read_records(file, LoggedRequest) for file in Path(".redistill/snapshots").glob("*.parquet")])

    # The same log is the same lock, and no stage runs again.
    locked = Path("sources.lock.json").read_bytes()
    lock_sources(params)
    assert Path("sources.lock.json").read_bytes() == locked
    assert "didn't change, skipping" in command("dvc", "repro", "--single-item", "prepare").stdout

    # While a cycle runs the log may grow: what the stages read is what was locked.
    list(write_shards(Path(".redistill/traffic"), rows(16, len(TEXTS)), 100))
    assert "didn't change, skipping" in command("dvc", "repro", "--single-item", "prepare").stdout

    lock_sources(params)
    assert Path("sources.lock.json").read_bytes() != locked
    after = prepared()
    grown = traffic_splits(after)
    assert len(grown) > len(home) and all(grown[prompt] == split for prompt, split in home.items() if prompt in grown)
    for split in ("train", "dev", "heldout"):
        assert after[split] == before[split]
    assert len([p for p in after["pool"] + after["calibration"] if p.source == "traffic:router"]) <= 30


def test_a_forgotten_row_is_gone_and_the_digests_hold(project: Path) -> None:
    params = load_params()
    lock_sources(params)
    locked = read_json("sources.lock.json")
    [entry] = [each for each in locked["sources"] if each.get("traffic") == "traffic:router"]
    snapshot = Path(entry["path"])
    gone = read_records(snapshot, LoggedRequest)[0].prompt_id
    for file in (snapshot, *shards(Path(".redistill/traffic"))):
        write_records(file, LoggedRequest, [row for row in read_records(file, LoggedRequest) if row.prompt_id != gone])
    links = {link.what: link for link in input_links(Path(), params) if link.part == "sources"}
    assert links["traffic:router"].state == "ok" and "1 of its rows were removed" in links["traffic:router"].note
    assert gone not in traffic_splits(prepared())
    # A checkout that builds a version again gets the snapshot as it is now.
    bring_inputs(params, {"sources": [entry]}, project / "checkout")
    assert (project / "checkout" / snapshot).read_bytes() == snapshot.read_bytes()
    lock_sources(params)
    assert gone not in {
        row.prompt_id
        for each in read_json("sources.lock.json")["sources"]
        if "traffic" in each
        for row in read_records(each["path"], LoggedRequest)
    }
    # What a lock names is kept by gc, and is in a backup.
    assert {each["sha256"] for each in read_json("sources.lock.json")["sources"] if "traffic" in each} <= names_in(Path()).snapshots
    assert str(snapshot) in dict(collected(params, Names())[0])


def test_a_damaged_snapshot_stops_the_stage_with_one_line(project: Path) -> None:
    params = load_params()
    lock_sources(params)
    [snapshot] = [Path(each["path"]) for each in read_json("sources.lock.json")["sources"] if each.get("traffic") == "traffic:router"]
    write_records(snapshot, LoggedRequest, rows(0, 3) + rows(20, 21))
    done = command("redistill", "stage", "prepare")
    assert done.returncode == 3 and done.stderr.startswith("error: traffic:router: ") and "run `redistill lock`" in done.stderr
    shutil.rmtree(".redistill/snapshots")
    assert "is missing; run `redistill lock`" in command("redistill", "stage", "prepare").stderr
    Path("sources.lock.json").unlink()
    assert "traffic:router has no snapshot in sources.lock.json; run `redistill lock`" in command("redistill", "stage", "prepare").stderr


def test_what_is_not_agreed_to_or_not_there_is_refused(project: Path) -> None:
    for file in shards(Path(".redistill/traffic")):
        write_records(file, LoggedRequest, [logged(f"without consent {n}", consent="") for n in range(3)])
    with pytest.raises(DataError, match=r"^traffic:router: none of its 6 rows may be used: 6 left out: no consent; set traffic\.consent"):
        lock_sources(load_params())
    shutil.rmtree(".redistill/traffic")
    lock_sources(load_params())
    assert [each["traffic"] for each in read_json("sources.lock.json")["sources"] if "traffic" in each] == [
        "traffic:router",
        "traffic:.redistill/imports",
    ]
    shutil.rmtree(".redistill/imports")
    with pytest.raises(DataError, match=r"the folder \.redistill/imports .* is missing; import traces into it"):
        lock_sources(load_params())
    write_params(project, data__source=[*SOURCES[:2], {"traffic": "router", "splits": {"train": 1.0}}])
    with pytest.raises(ConfigError, match=r"data\.source\.2: traffic:router gives rows to train, but logged prompts have no label"):
        load_params()
    write_params(project, data__source=[SOURCES[2]])
    with pytest.raises(ConfigError, match="source has only traffic"):
        load_params()
    write_params(project, data__source=[*SOURCES[:2], {"traffic": "router", "splits": {"pool": 1.0}, "max_row": 3}])
    with pytest.raises(ConfigError, match=r"data\.source\.2\.max_row is not a known key"):
        load_params()


def test_traces_are_imported_once_and_whole(project: Path) -> None:
    folder = Path(".redistill/imports")
    assert [(row.messages[0].content, row.slice, row.source) for row in read_traffic(folder)] == [
        ("My card has not arrived yet.", "app", "openai"),
        ("Why was I charged a fee of £5?", "mail", "openai"),
    ]
    before = sorted(file.name for file in folder.iterdir())
    # An import that was killed left its folder; no such process is there any more.
    left = folder / ".importing-999999999-x"
    left.mkdir()
    shutil.copy(shards(folder)[0], left)
    assert (again := imported(TRACES / "openai.jsonl", "openai"))["rows"] == 0 and again["already_there"] == 2
    dry = imported(TRACES / "otel.jsonl", "otel", "--dry-run")
    assert dry["rows"] == 2 and dry["next"] == ["run `redistill lock`, which takes a snapshot, or a cycle"]
    (project / "x.jsonl").write_text((TRACES / "openai-batch.jsonl").read_text(encoding="utf-8") + "{half\n", encoding="utf-8")
    options = ("--format", "openai", "--consent", "terms", "--licence", "CC0-1.0")
    broken = command("redistill", "traffic", "import", "x.jsonl", *options)
    assert broken.returncode == 3 and broken.stderr.splitlines()[0].startswith("broken: x.jsonl, line 3: invalid JSON (")
    assert broken.stderr.splitlines()[1].startswith("error: 1 broken record, so nothing is imported") and not broken.stdout
    assert sorted(file.name for file in folder.iterdir()) == before
    assert imported(project / "x.jsonl", "openai", "--skip-broken")["rows"] == 2
    assert imported(TRACES / "langfuse.json", "langfuse", "--into", "other")["next"] == [
        "add to data.source: {traffic: other, splits: {pool: 0.9, calibration: 0.1}}",
        "add to governance.licenses a review with covers: data, licence: CC0-1.0 and traffic:other among its sources",
    ]


def test_wrong_options_are_one_line(project: Path) -> None:
    for options, problem in (
        (("--consent", "", "--licence", "x"), "--consent is ''; say what the people"),
        (("--consent", "x", "--licence", "unknown"), "--licence is 'unknown'; say the licence"),
        (("--consent", "x", "--licence", "x", "--into", ".redistill/traffic"), "is the folder of the router"),
        (("--consent", "x", "--licence", "x", "--into", "params.yaml"), "--into params.yaml is a file"),
    ):
        done = command("redistill", "traffic", "import", str(TRACES / "openai.jsonl"), "--format", "openai", *options)
        assert done.returncode == 2 and problem in done.stderr and len(done.stderr.splitlines()) == 1
