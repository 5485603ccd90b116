"""A project whose key was replaced or lost still verifies what it signed before, and trusts the old key for nothing new."""

from __future__ import annotations

from pathlib import Path

import pytest

from redistill.errors import ConfigError, RegistryError
from redistill.provenance import keys, signing


@pytest.fixture(autouse=True)
def _no_named_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (keys.SIGNING_KEY, keys.VERIFY_KEY):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "weights.bin").write_bytes(b"0123456789" * 100)
    return tmp_path / "bundle"


def signed(folder: Path, state: Path, name: str) -> Path:
    signing.sign(folder, folder.parent / name, keys.signing_key(state))
    return folder.parent / name


def rotated(state: Path, *signatures: Path) -> keys.PublicKey:
    old = keys.retire(state, keys.verify_key(state).read_bytes(), [signature.read_bytes() for signature in signatures])
    keys.replace_own(state)
    return old


def test_old_bundles_verify_and_a_replaced_key_signs_nothing_new(folder: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    before = signed(folder, state, "before.sig")
    stolen = tmp_path / "stolen" / "keys"
    stolen.mkdir(parents=True)
    (stolen / "signing.pem").write_bytes(keys.signing_key(state).read_bytes())
    old = rotated(state, before)
    assert [key.id for key in keys.public_keys(state)][1:] == [old.id] and keys.public_keys(state)[0].id != old.id
    signing.verify(folder, before, keys.public_keys(state))
    signing.verify(folder, signed(folder, state, "after.sig"), keys.public_keys(state))
    (folder / "weights.bin").write_bytes(b"other")
    with pytest.raises(RegistryError, match="signature is not valid"):
        signing.verify(folder, signed(folder, tmp_path / "stolen", "forged.sig"), keys.public_keys(state))
    with pytest.raises(RegistryError, match="signature is not valid"):
        signing.verify(folder, before, keys.public_keys(state))


def test_a_lost_key_is_not_replaced_without_a_word(folder: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    before = signed(folder, state, "before.sig")
    (state / "keys" / "signing.pem").unlink()
    signing.verify(folder, before, keys.public_keys(state))
    with pytest.raises(RegistryError, match=r"is lost, .*`redistill key rotate --reason REASON`"):
        keys.signing_key(state)
    rotated(state, before)
    signing.verify(folder, before, keys.public_keys(state))
    signing.verify(folder, signed(folder, state, "after.sig"), keys.public_keys(state))


def test_the_key_of_another_machine_of_the_team(folder: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    keys.signing_key(here)
    theirs = signed(folder, there, "theirs.sig")
    with pytest.raises(RegistryError, match="another key signed them"):
        signing.verify(folder, theirs, keys.public_keys(here))
    (here / "keys" / "trusted").mkdir()
    (here / "keys" / "trusted" / "nights.pub").write_bytes(keys.verify_key(there).read_bytes())
    signing.verify(folder, theirs, keys.public_keys(here))
    (here / "keys" / "trusted" / "broken.pub").write_text("no key", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken\.pub is not a public key in PEM"):
        keys.public_keys(here)


def test_signed_texts(tmp_path: Path) -> None:
    state = tmp_path / "state"
    signature = keys.sign_text("one look", keys.signing_key(state))
    known = keys.public_keys(state)
    assert keys.text_is_signed("one look", signature, known) is True
    assert keys.text_is_signed("another look", signature, known) is False
    assert keys.text_is_signed("one look", signature[:-6] + "AAAA==", known) is False
    assert keys.text_is_signed("one look", "", known) is None
    keys.signing_key(tmp_path / "other")
    assert keys.text_is_signed("one look", signature, keys.public_keys(tmp_path / "other")) is None
    keys.retire(state, known[0].pem, [signature.encode()])
    keys.replace_own(state)
    assert keys.text_is_signed("one look", signature, keys.public_keys(state)) is True


def test_a_rotation_that_was_interrupted_changes_nothing_yet(folder: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    before = signed(folder, state, "before.sig")
    keys.signing_key(tmp_path / "state")
    present = keys.verify_key(state).read_bytes()
    keys.retire(state, present, [])
    assert [key.pem for key in keys.public_keys(state)] == [present]
    signing.verify(folder, before, keys.public_keys(state))
