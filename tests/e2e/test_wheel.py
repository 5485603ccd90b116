"""A project as a user makes it: from the wheel alone, without this repository; and an upgrade to a wheel with another loss."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from redistill.io.digests import file_digest
from tests.cycles import Ran, user_environment
from tests.tiny import make_tiny_model
from tests.tiny_project import ROOT

pytestmark = pytest.mark.cycles

ARMS = {f"finetune@{arm}" for arm in ("gold", "sft", "kd")}


def wheel(source: Path, target: Path) -> Path:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    return next(target.glob("*.whl"))


class Installed:
    """An environment with the wheel, and with the packages of this one but for the repository itself."""

    def __init__(self, folder: Path, home: Path, api: str) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        self.python = folder / "bin" / "python"
        packages = next((folder / "lib").glob("python*")) / "site-packages"
        # A path in a .pth file is added, but .pth files in there are not read: the repository's editable install is not found.
        (packages / "third_party.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")), encoding="utf-8")
        self._environment = {
            **user_environment(),
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": api,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        }

    def install(self, built: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(self.python),
            "install",
            "-q",
            "--no-deps",
            "--no-index",
            "--force-reinstall",
            str(built),
        ]
        subprocess.run(command, check=True, capture_output=True)

    def redistill(self, folder: Path, *arguments: str) -> Ran:
        command = [str(self.python.with_name("redistill")), *arguments]
        done = subprocess.run(command, cwd=folder, env=self._environment, capture_output=True, text=True, check=False)
        parsed = json.loads(done.stdout.strip().splitlines()[-1]) if "--json" in arguments and done.returncode == 0 else {}
        return Ran(done.returncode, parsed, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, prefect_home: Path, prefect_api: str) -> Installed:
    made = Installed(tmp_path_factory.mktemp("environment") / "venv", prefect_home, prefect_api)
    made.install(wheel(ROOT, tmp_path_factory.mktemp("first")))
    return made


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, installed: Installed) -> Path:
    """What ``init`` makes of a CSV; then the licence pages are filled in, and everything is made small."""
    folder = tmp_path_factory.mktemp("user")
    make_tiny_model(folder / "tiny", seed=1)
    with open(folder / "messages.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["message", "topic"])
        for i in range(240):
            rows.writerow(
                [
                    f"my {('card', 'fee', 'pin')[i % 3]} number {i} is {('lost', 'wrong')[i % 2]} since day {i % 31}",
                    ("card", "fee", "pin")[i % 3],
                ]
            )
    done = installed.redistill(folder, "init", "triage", "--data", "messages.csv", "--teacher", "tiny", "--json")
    assert done.code == 0, done.stderr
    assert done.result["task"] == "classification" and done.result["rows"] == 240
    return folder / "triage"


def fill_in(project: Path) -> None:
    tree = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    for review in tree["governance"]["licenses"]:
        page = project / review["terms"]
        page.write_text("Made for a test.\n", encoding="utf-8")
        review |= {"licence": "CC0-1.0", "reviewer": "A. Reader", "terms_sha256": file_digest(page), "allowed": True}
        review |= {"backend": "transformers"} if "backend" in review else {}
    tree["teacher"]["backend"] = "transformers"
    tree["tune_teacher"] = {"method": "full", "epochs": 12, "learning_rate": 0.01, "batch_size": 16}
    tree["finetune"]["common"] |= {"tokens": 2000, "batch_size": 8}
    tree["validate"] = {"min_mean_logprob": -20.0, "min_kept_share": 0.0, "min_rows": 5}
    tree["score"] = {"top_k": 8}
    tree["benchmark"] |= {"latency_requests": 8}
    (project / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")


def test_what_init_wrote_says_what_to_do_before_anything_is_asked(project: Path, installed: Installed) -> None:
    assert sorted(p.relative_to(project).as_posix() for p in project.rglob("*") if p.is_file()) == [
        ".gitignore", "data/licences/data.md", "data/licences/outputs.md", "data/licences/teacher.md", "data/messages.csv", "dvc.yaml", "params.yaml",
    ]  # fmt: skip
    done = installed.redistill(project, "lock")
    assert done.code == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "not allowed (licence unknown, reviewer nobody yet); read the terms, keep their text in data/licences/teacher.md" in done.stderr


def test_a_cycle_and_its_lineage_from_the_wheel_alone(project: Path, installed: Installed) -> None:
    fill_in(project)
    # The project is a folder of another repository.
    subprocess.run(["git", "init", "-q", str(project.parent)], check=True)
    done = installed.redistill(project, "run", "--json")
    assert done.code == 0, done.stderr[-3000:]
    assert set(done.result["stages"].values()) == {"ran"}
    links = installed.redistill(project, "lineage", "challenger" if done.result["verdict"] == "hold" else "champion")
    assert links.code == 0, links.stdout + links.stderr
    assert "redistill/distillation/losses/fused_head.py" in links.stdout and "tasks/training/arm.py" in links.stdout
    listed = subprocess.run(
        ["git", "status", "--porcelain", "-uall"], cwd=project.parent, capture_output=True, text=True, check=True
    ).stdout
    assert "triage/code.lock.json" in listed and "triage/.dvc/.gitignore" in listed
    assert not re.search(r"triage/(artifacts/|\.redistill/|\.dvc/(cache|tmp)/|mlflow)", listed), listed
    lock = json.loads((project / "code.lock.json").read_text(encoding="utf-8"))
    assert lock["redistill"] == "0.1.0" and "tasks/training/arm.py" in lock["files"]


def test_an_upgrade_and_tasks_of_its_own_run_what_has_other_code(project: Path, installed: Installed, tmp_path: Path) -> None:
    for name in ("src", "tasks", "flows"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("dvc.yaml", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    loss = tmp_path / "src/redistill/distillation/losses/divergences.py"
    loss.write_text(re.sub(r"_CHUNK_ELEMENTS = .*", "_CHUNK_ELEMENTS = 9 << 20", loss.read_text(encoding="utf-8")), encoding="utf-8")
    version = tmp_path / "src/redistill/version.py"
    version.write_text(version.read_text(encoding="utf-8").replace("0.1.0", "0.2.0"), encoding="utf-8")
    installed.install(wheel(tmp_path, tmp_path / "dist"))
    links = installed.redistill(project, "lineage", "1")
    assert links.code == 0 and "signed, but not checked: it came with redistill 0.1.0, and 0.2.0 is installed" in links.stdout, links.stderr
    done = installed.redistill(project, "eject", "--json")
    assert done.code == 0, done.stderr
    assert (project / "flows/distill_student.py").is_file()
    prepare = project / "tasks/stages/prepare.py"
    prepare.write_text(prepare.read_text(encoding="utf-8").replace('"""', '"""Ours: ', 1) + "\nOURS = True\n", encoding="utf-8")
    done = installed.redistill(project, "run", "--json")
    assert done.code == 0, done.stderr[-3000:]
    ran = {stage for stage, outcome in done.result["stages"].items() if outcome != "unchanged"}
    assert ran == {*ARMS, "prepare"}, "the loss came with the upgrade, prepare is the project's own"
    assert json.loads((project / "code.lock.json").read_text(encoding="utf-8"))["redistill"] == "0.2.0"
    assert installed.redistill(project, "eject").code == 2, "nothing is overwritten"
