"""What others load is what was signed: every file of a version, and no path that leads out of it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redistill.errors import RegistryError
from redistill.provenance import keys, mlflow_names, signing
from tasks.paths import STATE
from tasks.promotion import approve
from tasks.promotion.retest_champion import verify_champion
from tasks.registry import evidence_bundle, transitions
from tasks.registry.artifact import downloaded
from tasks.registry.history import Event, History, append
from tests.integration.conftest import Registry
from tests.team.backing import FILES

ON_BOTH_BACKINGS = True
Make = Callable[..., Registry]


def edited(file: Path, before: str, after: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")


def linked(file: Path, outside: Path) -> None:
    shutil.copy(file, outside / file.name)
    file.unlink()
    file.symlink_to(outside / file.name)


def indexed(model: Path, outside: Path) -> None:
    """The registered digest is renewed too: whoever can write the files can write the tag."""
    from safetensors import safe_open

    with safe_open(model / "model.safetensors", "pt") as file:
        names = list(file.keys())
    (model / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, f"../../{outside.name}/model.safetensors")}), encoding="utf-8"
    )


DAMAGE: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "code beside the weights": (
        lambda root, _: (root / "model" / "modeling.py").write_text("import os"),
        "do not have the registered digest",
    ),
    "code beside the model": (lambda root, _: (root / "code.py").write_text("import os"), "signature is not valid"),
    "MLmodel": (lambda root, _: edited(root / "MLmodel", "code: null", "code: code"), "signature is not valid"),
    "another tokenizer": (lambda root, _: edited(root / "components/tokenizer/tokenizer.json", "BPE", "bpe"), "signature is not valid"),
    "another package": (lambda root, _: edited(root / "requirements.txt", "torch", "t0rch"), "signature is not valid"),
    "a file is gone": (lambda root, _: (root / "LICENSE.txt").unlink(), "signature is not valid"),
    "a link to outside": (lambda root, out: linked(root / "model" / "model.safetensors", out), "symbolic link"),
    "a linked tokenizer": (lambda root, out: linked(root / "components/tokenizer/tokenizer.json", out), "symbolic link"),
    "an index to outside": (lambda root, out: indexed(root / "model", out), "lead out of their folder"),
}


OF_A_FOLDER = ("a link to outside", "a linked tokenizer")
"""Damage that an object store cannot have."""


def test_every_file_of_a_version_is_verified(make_registry: Make, tmp_path: Path) -> None:
    registry = make_registry()
    version = registry.version(122, seed=1)
    kept = tmp_path / "kept"
    with registry.files_of_version(version) as root:
        shutil.copytree(root, kept)
    for name, (damage, says) in DAMAGE.items():
        if name in OF_A_FOLDER and registry.backing.name != FILES:
            continue
        with registry.files_of_version(version) as root:
            damage(root, Path(tempfile.mkdtemp(dir=root.parent.parent)))
        with pytest.raises(RegistryError, match=says):
            approve.promote(registry.params, version, name)
        with registry.files_of_version(version) as root:
            shutil.rmtree(root)
            shutil.copytree(kept, root)
    approve.promote(registry.params, version, "as it was signed")
    with registry.files_of_version(version) as root:
        (root / "code.py").write_text("import os")
    check = verify_champion(registry.params, History())
    assert check is not None and not check.trusted and "signature is not valid" in check.sentence


def test_a_bundle_of_before_verifies_by_the_files_that_it_lists(make_registry: Make, capsys: pytest.CaptureFixture[str]) -> None:
    registry = make_registry()
    version = registry.version(122, seed=1)
    artifact = downloaded(registry.client, registry.params, version)
    with tempfile.TemporaryDirectory() as tree, registry.files_of_run(version) as run:
        shutil.copytree(artifact.weights, Path(tree) / "weights")
        shutil.copytree(run / "evidence", Path(tree) / "evidence")
        signing.sign(Path(tree), run / "bundle.sig", keys.signing_key(STATE))
    capsys.readouterr()
    evidence_bundle._TOLD.clear()
    approve.promote(registry.params, version, "signed before the upgrade")
    evidence_bundle.verified(registry.client, registry.params, version)
    said = [line for line in capsys.readouterr().out.splitlines() if "earlier redistill" in line]
    assert len(said) == 1 and "lists the checkpoint and the evidence, but not the 8 other files of the version" in said[0]
    with registry.files_of_version(version) as root:
        edited(root / "model" / "config.json", '"hidden_size": 32', '"hidden_size": 33')
    with pytest.raises(RegistryError, match="registered digest"):
        evidence_bundle.verified(registry.client, registry.params, version)


def forged(registry: Registry, version: str, **changes: Any) -> None:
    """A line of the history, as anybody writes it who can write to MLflow."""
    now = transitions.live(registry.client, registry.params)
    event = Event(
        f"forged-{version}", "promote", version, "2026-01-01T00:00:00+00:00", "mallory", "passed", version, now.champion, "student"
    )
    append(registry.client, registry.params, event)
    registry.client.set_model_version_tag(registry.params.data.name, version, mlflow_names.TAG_VERDICT, "promote")


def test_a_line_of_the_history_promotes_nothing(make_registry: Make) -> None:
    """Rollback reads the signed verdict: neither a tag nor the history says that a version was promoted."""
    registry = make_registry()
    params = registry.params
    approve.promote(params, registry.version(122, seed=1), "passed")
    held = registry.version(60, seed=2)
    forged(registry, held)
    for act in (approve.rollback, approve.set_reference):
        with pytest.raises(RegistryError, match="version 2 was on hold by its signed judgement, whatever the history says"):
            act(params, held, "please")
    assert transitions.live(registry.client, params).champion == "1"
    registry.client.set_registered_model_alias(params.data.name, mlflow_names.CHAMPION, held)
    check = verify_champion(params, History())
    assert check is not None and not check.trusted and "on hold by its signed judgement" in check.sentence


def test_a_cascade_is_not_live_alone_by_a_line_of_the_history(make_registry: Make) -> None:
    registry = make_registry(gates=["teacher", "champion"])
    version = registry.version(100, seed=11, threshold=0.5)
    approve.promote(registry.params, version, "passed")
    forged(registry, version)
    check = verify_champion(registry.params, History())
    assert check is not None and not check.trusted and "alone, but its signed judgement promoted a cascade" in check.sentence
