"""The house rules of DESIGN.md that a machine can check."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from redistill.params import load_params
from redistill.provenance.code_identity import code_identity, folders
from redistill.tuning.params import SweepParams
from tasks.locking.code_lock import LOCKS_CODE
from tasks.paths import CODE
from tasks.running.cycle_stages import after_data, every_stage
from tasks.running.stage_command import sections_of
from tests.tiny_project import ROOT

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
STAGES = {name: body.get("do", body) for name, body in DVC.items()}


@pytest.mark.parametrize("stage", [name for name in STAGES if name != LOCKS_CODE])
def test_every_stage_names_its_code_in_one_line(stage: str) -> None:
    named = [keys for p in STAGES[stage]["params"] if isinstance(p, dict) for file, keys in p.items() if file == str(CODE)]
    assert named == [[f"stages.{stage}"]]
    assert not [d for d in STAGES[stage].get("deps") or [] if d.endswith(".py")]


def test_stages_do_not_import_what_runs_them() -> None:
    """An edited fork server or command line makes no stage run again."""
    for stage in set(STAGES) - {LOCKS_CODE}:
        files = set(code_identity(f"tasks.stages.{stage}", folders("redistill", "tasks")).files)
        above = {f for f in files if f.startswith(("tasks/running/", "redistill/cli/", "redistill/promotion/"))}
        # The stage that calibrates a cascade imports the rules for its threshold, and nothing that judges.
        thresholds = {
            f for f in above if stage == "calibrate" and f.startswith(("redistill/promotion/thresholds/", "redistill/promotion/cascade"))
        }
        assert not above - thresholds - {"tasks/running/work_directory.py", "redistill/promotion/__init__.py"}, stage
        assert "redistill/version.py" not in files and "redistill/params.py" not in files, stage


@pytest.mark.parametrize("stage", STAGES)
def test_params_of_a_stage_are_the_slices_its_function_takes(stage: str) -> None:
    function = getattr(importlib.import_module(f"tasks.stages.{stage}"), stage)
    arm = "${promote.arm}" if stage == "sweep" else "${key}"
    taken = {kind.SECTION.replace("{arm}", arm) for kind in sections_of(function).values()}
    listed = {p for p in STAGES[stage].get("params", ()) if isinstance(p, str)}
    assert listed == taken


@pytest.mark.parametrize("stage", STAGES)
def test_stage_functions_take_slices_and_names_only(stage: str) -> None:
    function = getattr(importlib.import_module(f"tasks.stages.{stage}"), stage)
    names = set(inspect.signature(function).parameters) - set(sections_of(function))
    assert names <= {"arm", "who", "point"}


def test_foreach_names_are_the_arms_of_params() -> None:
    arms = load_params(ROOT / "params.yaml").finetune.arms
    assert set(DVC["finetune"]["foreach"]) == set(arms)
    assert set(DVC["benchmark"]["foreach"]) == {"teacher", "linear", "base", *arms}
    assert set(DVC["heldout"]["foreach"]) == {"teacher", *arms}


def test_the_flow_runs_every_stage_after_what_it_is_made_from() -> None:
    params = load_params(ROOT / "params.yaml")
    params = dataclasses.replace(params, sweep=SweepParams(layers=("teacher", 6)))
    order = list(every_stage(params))
    keys = {name: body.get("foreach") for name, body in DVC.items()} | {"sweep": params.sweep.layers}
    every = {n for n, ks in keys.items() if ks is None} | {f"{n}@{k}" for n, ks in keys.items() for k in ks or ()}
    assert set(order) == every - {LOCKS_CODE}
    side_by_side = {wanted.stage: wanted.after for wanted in after_data(params)}
    made: dict[str, set[str]] = {}
    for stage in order:
        name, _, key = stage.partition("@")
        items = DVC[name].get("foreach", {})
        item = items.get(key, {}) if isinstance(items, dict) else {}

        def filled(text: str, item: dict[str, str] = item, key: str = key) -> str:
            for field, value in item.items():
                text = text.replace("${item." + field + "}", value)
            return text.replace("${key}", key).replace("${item}", key)

        needed = [filled(d) for d in STAGES[name].get("deps") or [] if filled(d).startswith("artifacts/")]
        # Of what runs side by side only the stages that it waits for are done before it.
        before = {s for s in made if s not in side_by_side or s in side_by_side.get(stage, set())}
        for dep in needed:
            there = any(dep == out or dep.startswith(out + "/") for s in before for out in made[s])
            assert there, f"{stage} runs before {dep} is made"
        made[stage] = {filled(next(iter(o)) if isinstance(o, dict) else o) for o in STAGES[name]["outs"]}


def test_flow_files_do_not_shadow_importable_modules() -> None:
    for file in (ROOT / "flows").glob("*.py"):
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({file.stem!r}) is not None)"
        assert subprocess.run([sys.executable, "-I", "-c", code], cwd="/", check=False).returncode == 0, file.name


@pytest.mark.parametrize("folder", ["src", "tasks", "flows", "tests"])
def test_files_are_short(folder: str) -> None:
    limit = 120 if folder == "flows" else 500
    long = {str(f): n for f in (ROOT / folder).rglob("*.py") if (n := len(f.read_text(encoding="utf-8").splitlines())) > limit}
    assert not long


def test_layers() -> None:
    done = subprocess.run([str(Path(sys.executable).parent / "lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_stage_is_kept_from_knowing_prefect() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    [kept] = [contract["source_modules"] for contract in contracts if contract["name"].startswith("stages know neither")]
    assert kept == ["tasks.stages", "tasks.training"]
    assert {file.stem for file in (ROOT / "tasks" / "stages").glob("*.py")} == {*STAGES, "__init__"}


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, redistill.cli.app; print([m for m in ('torch','transformers','prefect','mlflow','dvc','vllm','lm_eval','pandas','numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_wheel_holds_the_package_only(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        tops = {n.split("/")[0] for n in archive.namelist()}
        archive.extractall(tmp_path / "away")
    assert {t for t in tops if not t.endswith(".dist-info")} == {"redistill"}
    code = "import sys, redistill\ntry:\n    import flows\nexcept ImportError:\n    print(redistill.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "away")}
    )
    assert str(tmp_path / "away") in done.stdout


def test_readme_commands_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert set(re.findall(r"^make ([a-z-]+)", readme, re.M)) <= targets
    from redistill.cli.app import app

    known = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback} | {g.name for g in app.registered_groups}
    shell = "".join(re.findall(r"```sh\n(.*?)```", readme, re.S))
    assert set(re.findall(r"^redistill ([a-z]+)", shell, re.M)) <= known
    for link in re.findall(r"\]\(([^)#]+)\)", readme):
        assert "://" in link or (ROOT / link).exists(), link


def test_no_machine_paths_or_registry_hosts() -> None:
    # Spelled in pieces, so that this file does not hold what it looks for.
    hosts = ["py" + "pi.org", "python" + "hosted", "deb." + "debian", "registry." + "npmjs"]
    paths = re.compile(r"(^|[^\w.$}])/(wo" + r"rk|fa" + r"rm|opt/(wh|py))[a-z]*/", re.M)
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: no list of tracked files")
    for name in listed.stdout.splitlines():
        file = ROOT / name
        if file.is_file() and file.suffix not in (".png",):
            text = file.read_text(encoding="utf-8", errors="ignore")
            assert not [w for w in hosts if w in text], name
            assert not paths.search(text), name
