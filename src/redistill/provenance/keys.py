"""The keys of a project: the one that signs, and those whose signatures are trusted.

The project makes a key on first use; a team names its key in the environment: ``REDISTILL_SIGNING_KEY`` (to promote) and ``REDISTILL_VERIFY_KEY`` (to
load). Beside the signing key lie two folders of public keys: ``trusted`` for the keys of other machines of the team, and ``earlier`` for keys that were
replaced. An earlier key is trusted only for what it had signed when it was replaced.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redistill.errors import ConfigError, RegistryError
from redistill.io.json import read_json, write_json

SIGNING_KEY = "REDISTILL_SIGNING_KEY"
VERIFY_KEY = "REDISTILL_VERIFY_KEY"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key that this project knows. ``signed`` has the digests of what an earlier key had signed; None for a key that may sign anything."""

    id: str
    pem: bytes
    signed: frozenset[str] | None = None
    retired_at: str = ""

    def covers(self, signature: bytes) -> bool:
        """Whether this key is trusted for a signature that it made."""
        return self.signed is None or hashlib.sha256(signature).hexdigest() in self.signed


def signing_key(state: Path) -> Path:
    """The private key: the one that the environment names, else the project's own, made on first use and readable by its owner only.

    Raises:
        ConfigError: the environment names a file that is not there.
        RegistryError: the project's own key is lost; a new one would silently replace the public key that its bundles need.
    """
    if named := os.environ.get(SIGNING_KEY):
        return _there(Path(named), SIGNING_KEY)
    key = _own(state)
    if not key.is_file():
        if key.with_suffix(".pub").is_file():
            raise RegistryError(
                f"the signing key {key} is lost, but its public key is there; restore it from a backup, name the team's key in {SIGNING_KEY}, "
                "or replace it with `redistill key rotate --reason REASON`"
            )
        _make(key)
    _public_half(key, key.with_suffix(".pub"))
    return key


def verify_key(state: Path) -> Path:
    """The public key of what is signed now: named by the environment, else the half of the project's own.

    Raises:
        ConfigError: the environment names a file that is not there.
        RegistryError: this project has not signed anything yet, and no key is set.
    """
    if named := os.environ.get(VERIFY_KEY):
        return _there(Path(named), VERIFY_KEY)
    if named := os.environ.get(SIGNING_KEY):
        return _public_half(_there(Path(named), SIGNING_KEY), state / "keys" / "named.pub")
    own, key = _own(state), _own(state).with_suffix(".pub")
    if own.is_file():
        return _public_half(own, key)
    if not key.is_file():
        raise RegistryError(
            f"there is no key to verify signatures: {key} is missing; copy it from the machine that signed the version, or set {VERIFY_KEY}"
        )
    return key


def has_key(state: Path) -> bool:
    """Whether signatures can be verified here."""
    return any(os.environ.get(name) for name in (SIGNING_KEY, VERIFY_KEY)) or any(
        _own(state).with_suffix(end).is_file() for end in (".pem", ".pub")
    )


def public_keys(state: Path) -> list[PublicKey]:
    """Every key whose signatures are trusted: the present one, those of other machines, then earlier ones.

    Raises:
        ConfigError: a file among them is no public key.
        RegistryError: as ``verify_key``.
    """
    present = [verify_key(state), *sorted((state / "keys" / "trusted").glob("*.pub"))]
    keys = [PublicKey(key_id(file.read_bytes(), file), file.read_bytes()) for file in present]
    for file in sorted((state / "keys" / "earlier").glob("*.json")):
        tree = read_json(file)
        pem = str(tree["public_key"]).encode()
        keys.append(PublicKey(key_id(pem, file), pem, frozenset(tree["signatures"]), str(tree["retired_at"])))
    # The present key first, also if a rotation was interrupted and lists it as an earlier one already.
    known: dict[str, PublicKey] = {}
    for key in keys:
        known.setdefault(key.id, key)
    return list(known.values())


def retire(state: Path, pem: bytes, signatures: Iterable[bytes]) -> PublicKey:
    """From now on, trust a key only for these signatures."""
    old = PublicKey(
        key_id(pem),
        pem,
        frozenset(hashlib.sha256(signature).hexdigest() for signature in signatures),
        dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )
    tree = {"public_key": pem.decode(), "retired_at": old.retired_at, "signatures": sorted(old.signed or ())}
    write_json(state / "keys" / "earlier" / f"{old.id}.json", tree)
    return old


def replace_own(state: Path) -> None:
    """Give the project another signing key. The old private key is gone afterwards."""
    _make(_own(state), instead=True)
    signing_key(state)


def key_id(pem: bytes, file: Path | None = None) -> str:
    """A short name of a public key.

    Raises:
        ConfigError: it is no public key in PEM.
    """
    from cryptography.hazmat.primitives import serialization

    try:
        public = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{file or 'the public key'} is not a public key in PEM ({str(error)[:100]})") from None
    return hashlib.sha256(public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)).hexdigest()[:16]


def sign_text(text: str, private: Path) -> str:
    """A signature of a text, with the name of its key in front: ``ID:BASE64``.

    Raises:
        ConfigError: the file is no unencrypted elliptic private key.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = _private(private)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{private} cannot sign; it must be an unencrypted elliptic private key in PEM")
    signature = key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
    return f"{key_id(_public_pem(key.public_key()))}:{base64.b64encode(signature).decode()}"


def text_is_signed(text: str, signature: str, keys: Iterable[PublicKey]) -> bool | None:
    """Whether one of ``keys`` signed a text; None if the key that is named is none of them.

    A signature of a key that is known must fit: where it does not, the text was changed.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    name, _, encoded = signature.partition(":")
    key = next((key for key in keys if key.id == name), None)
    if key is None:
        return None
    try:
        public: Any = serialization.load_pem_public_key(key.pem)
        public.verify(base64.b64decode(encoded, validate=True), text.encode(), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError, TypeError, AttributeError):
        return False
    return key.covers(signature.encode())


def _own(state: Path) -> Path:
    return state / "keys" / "signing.pem"


def _make(key: Path, *, instead: bool = False) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    key.parent.mkdir(parents=True, exist_ok=True)
    # Git must not see the key, also where the project is a folder of another repository.
    (key.parent / ".gitignore").write_text("*\n", encoding="utf-8")
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    temporary = key.with_suffix(f".{os.getpid()}.tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
        handle.write(pem)
        os.fsync(handle.fileno())
    try:
        if instead:
            os.replace(temporary, key)
            return
        # If another process made the key first, the link fails, and that key is used.
        with suppress(FileExistsError):
            os.link(temporary, key)
    finally:
        temporary.unlink(missing_ok=True)


def _public_pem(public: object) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]


def _private(file: Path) -> Any:
    from cryptography.hazmat.primitives import serialization

    try:
        return serialization.load_pem_private_key(file.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{SIGNING_KEY}={file} is not an unencrypted private key in PEM ({error})") from None


def _public_half(private: Path, half: Path) -> Path:
    """Write the public half of a key. It is derived again, so that both always belong together."""
    half.parent.mkdir(parents=True, exist_ok=True)
    pem = _public_pem(_private(private).public_key())
    if not half.is_file() or half.read_bytes() != pem:
        temporary = half.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(pem)
        os.replace(temporary, half)
    return half


def _there(path: Path, variable: str) -> Path:
    if not path.is_file():
        raise ConfigError(f"{variable}={path}: no such file")
    return path
