"""A whole project on tiny random-weight models: the real flows, stages and servers in seconds instead of minutes.

``python -m tests.tiny_project DIR`` makes one; ``make demo-quick`` runs it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.tiny import make_tiny_model

ROOT = Path(__file__).resolve().parents[1]
LABELS = ["card", "fee", "other", "pin"]


def make_tiny_project(path: Path, **changes: Any) -> Path:
    """Write params, data, a tiny teacher and this repository's stages and flows into a directory of their own.

    ``changes`` are dotted params keys with ``__`` for the dot, such as ``generate__samples=2``.
    """
    path.mkdir(parents=True, exist_ok=True)
    for name in ("src", "tasks", "flows"):
        if not (path / name).exists():
            shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "dvc.yaml", path / "dvc.yaml")
    make_tiny_model(path / "teacher", seed=1)
    _write_data(path)
    terms = path / "terms.md"
    terms.write_text("Made for this test; anything may be done with it.\n", encoding="utf-8")
    write_params(path, **changes)
    return path


def write_params(path: Path, **changes: Any) -> None:
    tree = params(hashlib.sha256((path / "terms.md").read_bytes()).hexdigest())
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value
    reviewed(tree)
    (path / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")


def reviewed(tree: dict[str, Any]) -> None:
    """Let every review say what it is about: the teacher and the sources that these params name."""
    teacher, source = tree["teacher"], tree["data"]["source"]
    sources = [source] if isinstance(source, str) else [each.get("path") or f"traffic:{each['traffic']}" for each in source]
    for review in tree["governance"]["licenses"]:
        revision = {} if teacher.get("revision") is None else {"revision": teacher["revision"]}
        about = {"model": teacher["model"], "backend": teacher.get("backend", "vllm"), **revision}
        review |= {"sources": sources} if review["covers"] == "data" else about


def params(terms_sha256: str) -> dict[str, Any]:
    review = {
        "licence": "CC0-1.0",
        "terms": "terms.md",
        "terms_sha256": terms_sha256,
        "reviewer": "tests",
        "reviewed": "2026-01-01",
        "expires": "2099-01-01",
        "allowed": True,
    }
    return {
        "data": {
            "name": "tiny",
            "source": [
                {"path": "labelled.jsonl", "splits": {"train": 0.6, "dev": 0.2, "heldout": 0.2}},
                {"path": "unlabelled.jsonl", "splits": {"pool": 0.8, "calibration": 0.2}},
            ],
            "task": "record",
            "record": {"labels": LABELS, "flags": ["urgent"], "entities": ["amount"], "several": True},
        },
        "intake": {"max_chars": 400, "near_duplicate": 0.9},
        "governance": {"licenses": [{"name": "tiny", "covers": c, **review} for c in ("teacher", "outputs", "data")]},
        "teacher": {"model": "teacher", "backend": "transformers"},
        "tune_teacher": {"method": "full", "epochs": 8, "learning_rate": 0.01, "batch_size": 16},
        "generate": {"max_tokens": 16},
        "validate": {"min_mean_logprob": -20.0, "min_kept_share": 0.0, "min_rows": 5},
        "score": {"top_k": 8},
        "student": {"model": "teacher", "init": "prune", "layers": {"keep": 2}},
        "finetune": {
            "method": "logit",
            "common": {"tokens": 40000, "batch_size": 16, "learning_rate": 0.01, "supervise": "all", "save_every_steps": 40, "threads": 1},
            "arms": {"gold": {"rows": "gold"}, "sft": {"rows": "gold_and_teacher"}, "kd": {"rows": "gold_and_teacher", "alpha": 0.5}},
        },
        "sweep": {"layers": []},
        "tune": {"trials": 3, "space": {"alpha": [0.1, 1.0], "learning_rate": [0.001, 0.02], "layers": [1, 2]}},
        "benchmark": {
            "batch_size": 16,
            "threads": 1,
            "max_tokens": 16,
            "latency_requests": 8,
            "bootstrap": 50,
            "fairness": "fairness.jsonl",
        },
        "promote": {"arm": "kd", "gates": ["audit", "teacher", "champion", "reference", "slices", "smaller", "faster"]},
    }


def _write_data(path: Path) -> None:
    """The bank example's first rows with their labels folded into four, so that a tiny model can learn something."""
    fold = {"pin": "pin", "fee": "fee", "other": "other"}
    labelled = []
    for row in _rows("labelled")[:260]:
        first = row["label"].split("; ")[0].split("+")[0]
        labelled.append({"id": row["id"], "text": row["text"], "slice": row["slice"], "label": fold.get(first, "card")})
    # Copies are planted against rows that this subset does not hold; here they are rows like any other.
    traps = {"heldout_copy", "heldout_near_copy", "near_duplicate"}
    unlabelled = [{k: v for k, v in row.items() if k != "planted" or v not in traps} for row in _rows("unlabelled")[:170]]
    pairs = [pair for kind in ("name", "gender", "dialect") for pair in _rows("fairness") if pair["kind"] == kind][::5]
    for name, rows in (("labelled", labelled), ("unlabelled", unlabelled), ("fairness", pairs)):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")


def _rows(name: str) -> list[dict[str, Any]]:
    lines = (ROOT / "data" / "bank_triage" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.tiny_project DIR")
    make_tiny_project(Path(sys.argv[1]))
