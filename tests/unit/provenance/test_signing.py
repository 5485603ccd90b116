"""``redistill.provenance.signing``: real keys, real signatures; every way in which a bundle may have been touched."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from redistill.errors import ConfigError, RegistryError
from redistill.provenance import keys, signing


@pytest.fixture(autouse=True)
def _no_named_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (keys.SIGNING_KEY, keys.VERIFY_KEY):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A folder, its signature, and the project's state."""
    folder, state = tmp_path / "bundle", tmp_path / "state"
    (folder / "evidence").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"0123456789" * 1000)
    (folder / "evidence" / "report.json").write_text('{"verdict": "promote"}', encoding="utf-8")
    signing.sign(folder, tmp_path / "bundle.sig", keys.signing_key(state))
    return folder, tmp_path / "bundle.sig", state


def test_what_was_signed_verifies_and_the_key_is_the_owners_alone(signed: tuple[Path, Path, Path]) -> None:
    folder, signature, state = signed
    signing.verify(folder, signature, keys.public_keys(state))
    key = keys.signing_key(state)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    assert keys.signing_key(state).read_bytes() == before, "made once"
    assert b"PRIVATE" not in keys.verify_key(state).read_bytes() and not list(key.parent.glob("*.tmp"))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "changed": lambda f: (f / "evidence/report.json").write_text('{"verdict": "hold"}', encoding="utf-8"),
    "one bit of the weights": lambda f: (f / "weights.bin").write_bytes(b"1" + b"0123456789" * 1000),
    "removed": lambda f: (f / "evidence/report.json").unlink(),
    "added": lambda f: (f / "evidence/more.json").write_text("{}", encoding="utf-8"),
    "renamed": lambda f: (f / "weights.bin").rename(f / "weights2.bin"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_any_change_is_noticed(signed: tuple[Path, Path, Path], how: str) -> None:
    folder, signature, state = signed
    DAMAGE[how](folder)
    with pytest.raises(RegistryError, match="signature is not valid"):
        signing.verify(folder, signature, keys.public_keys(state))


def test_another_key_no_signature_and_a_broken_one(signed: tuple[Path, Path, Path], tmp_path: Path) -> None:
    folder, signature, state = signed
    keys.signing_key(tmp_path / "other")
    with pytest.raises(RegistryError, match="signature is not valid"):
        signing.verify(folder, signature, keys.public_keys(tmp_path / "other"))
    with pytest.raises(RegistryError, match="has no signature"):
        signing.verify(folder, tmp_path / "nowhere.sig", keys.public_keys(state))
    signature.write_text("{}", encoding="utf-8")
    with pytest.raises(RegistryError, match="signature is not valid"):
        signing.verify(folder, signature, keys.public_keys(state))


def test_keys_of_the_team(signed: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, signature, state = signed
    team = shutil.copytree(state, tmp_path / "team") / "keys"
    monkeypatch.setenv(keys.VERIFY_KEY, str(team / "signing.pub"))
    signing.verify(folder, signature, keys.public_keys(tmp_path / "elsewhere"))
    monkeypatch.delenv(keys.VERIFY_KEY)
    with pytest.raises(RegistryError, match="no key to verify signatures"):
        keys.verify_key(tmp_path / "elsewhere")
    monkeypatch.setenv(keys.SIGNING_KEY, str(team / "signing.pem"))
    assert keys.signing_key(tmp_path / "elsewhere") == team / "signing.pem"
    signing.verify(folder, signature, keys.public_keys(tmp_path / "elsewhere"))
    monkeypatch.setenv(keys.SIGNING_KEY, str(tmp_path / "nowhere.pem"))
    with pytest.raises(ConfigError, match=r"REDISTILL_SIGNING_KEY=.*no such file"):
        keys.signing_key(state)
    (tmp_path / "nowhere.pem").write_text("no key", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot sign"):
        signing.sign(folder, signature, keys.signing_key(state))
    with pytest.raises(ConfigError, match="not an unencrypted private key"):
        keys.verify_key(state)
