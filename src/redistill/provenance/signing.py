"""Sign and verify a folder: weights and the evidence that promoted them, under one signature.

OpenSSF model signing with an elliptic key. The project makes a key of its own on first use; a team names its own in the environment:
``REDISTILL_SIGNING_KEY`` (to promote) and ``REDISTILL_VERIFY_KEY`` (to load). A signature shows whose key signed exactly these bytes; a
digest stored with the files cannot show that.

Source: https://github.com/sigstore/model-transparency (OMS specification).
"""

from __future__ import annotations

import base64
import json
import os
from contextlib import suppress
from pathlib import Path

from redistill.errors import ConfigError, RegistryError

SIGNING_KEY = "REDISTILL_SIGNING_KEY"
VERIFY_KEY = "REDISTILL_VERIFY_KEY"


def signing_key(state: Path) -> Path:
    """The private key: the one that the environment names, else the project's own, made on first use and readable by its owner only.

    Raises:
        ConfigError: the environment names a file that is not there.
    """
    if named := os.environ.get(SIGNING_KEY):
        return _there(Path(named), SIGNING_KEY)
    key = state / "keys" / "signing.pem"
    if not key.is_file():
        _make(key)
    _public_half(key, key.with_suffix(".pub"))
    return key


def verify_key(state: Path) -> Path:
    """The public key: named by the environment, else the half of the project's own.

    Raises:
        ConfigError: the environment names a file that is not there.
        RegistryError: this project has not signed anything yet, and no key is set.
    """
    if named := os.environ.get(VERIFY_KEY):
        return _there(Path(named), VERIFY_KEY)
    if named := os.environ.get(SIGNING_KEY):
        return _public_half(_there(Path(named), SIGNING_KEY), state / "keys" / "named.pub")
    own, key = state / "keys" / "signing.pem", state / "keys" / "signing.pub"
    if own.is_file():
        return _public_half(own, key)
    if not key.is_file():
        raise RegistryError(
            f"there is no key to verify signatures: {key} is missing; copy it from the machine that signed the version, or set {VERIFY_KEY}"
        )
    return key


def sign(folder: Path, signature: Path, key: Path) -> None:
    """Write the detached signature of all files below ``folder``."""
    from model_signing import signing

    try:
        signing.Config().use_elliptic_key_signer(private_key=key).sign(folder, signature)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise ConfigError(f"{key} cannot sign ({error}); it must be an unencrypted elliptic private key in PEM") from None


def verify(folder: Path, signature: Path, key: Path) -> None:
    """Check that the files below ``folder`` are exactly those that the owner of ``key`` signed.

    Raises:
        RegistryError: changed, missing or added files, another key, or no signature at all.
    """
    from model_signing import verifying

    if not signature.is_file():
        raise RegistryError("it has no signature; only versions that redistill registered, or that `redistill gate` judged, have one")
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, signature)  # type: ignore[no-untyped-call]
    except Exception as error:
        # The library raises errors of many types, its own and those of cryptography. With any of them, the version is not verified.
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise RegistryError(f"its signature is not valid ({reason}); the files were changed, or another key signed them") from None


def listed(signature: Path) -> list[str]:
    """The names of the files that a signature lists, without a check of the signature; none if it cannot be read."""
    try:
        payload = json.loads(signature.read_text(encoding="utf-8"))["dsseEnvelope"]["payload"]
        resources = json.loads(base64.b64decode(payload))["predicate"]["resources"]
        return [str(resource["name"]) for resource in resources]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _make(key: Path) -> None:
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
        # A link fails where another process was first: there is one key, whoever made it.
        with suppress(FileExistsError):
            os.link(temporary, key)
    finally:
        temporary.unlink(missing_ok=True)


def _public_pem(public: object) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]


def _public_half(private: Path, half: Path) -> Path:
    """Write the public half of a key. It is derived again, so that both always belong together."""
    from cryptography.hazmat.primitives import serialization

    half.parent.mkdir(parents=True, exist_ok=True)
    try:
        key = serialization.load_pem_private_key(private.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{SIGNING_KEY}={private} is not an unencrypted private key in PEM ({error})") from None
    pem = _public_pem(key.public_key())
    if not half.is_file() or half.read_bytes() != pem:
        temporary = half.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(pem)
        os.replace(temporary, half)
    return half


def _there(path: Path, variable: str) -> Path:
    if not path.is_file():
        raise ConfigError(f"{variable}={path}: no such file")
    return path
