"""Sign and verify a folder: weights and the evidence that promoted them, under one signature.

OpenSSF model signing with an elliptic key (``redistill.provenance.keys``). A signature shows whose key signed exactly these bytes; a digest stored with
the files cannot show that.

Source: https://github.com/sigstore/model-transparency (OMS specification).
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from redistill.errors import ConfigError, RegistryError
from redistill.provenance.keys import PublicKey


def sign(folder: Path, signature: Path, key: Path) -> None:
    """Write the detached signature of all files below ``folder``."""
    from model_signing import signing

    try:
        signing.Config().use_elliptic_key_signer(private_key=key).sign(folder, signature)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise ConfigError(f"{key} cannot sign ({error}); it must be an unencrypted elliptic private key in PEM") from None


def verify(folder: Path, signature: Path, keys: Sequence[PublicKey]) -> None:
    """Check that the files below ``folder`` are exactly those that the owner of one of ``keys`` signed.

    Raises:
        RegistryError: changed, missing or added files, another key, or no signature at all.
    """
    if not signature.is_file():
        raise RegistryError("it has no signature; only versions that redistill registered, or that `redistill gate` judged, have one")
    reasons = []
    for key in keys:
        if key.covers(signature.read_bytes()):
            if (reason := _problem(folder, signature, key)) is None:
                return
            reasons.append(reason)
    # The library says of another key only that the signature does not fit; what it says of the files is more useful.
    reason = next((r for r in reasons if "mismatch" in r.lower()), reasons[0] if reasons else "no key is trusted for it")
    raise RegistryError(f"its signature is not valid ({reason}); the files were changed, or another key signed them")


def _problem(folder: Path, signature: Path, key: PublicKey) -> str | None:
    from model_signing import verifying

    with tempfile.NamedTemporaryFile(suffix=".pub") as public:
        public.write(key.pem)
        public.flush()
        try:
            verifying.Config().use_elliptic_key_verifier(public_key=Path(public.name)).verify(folder, signature)  # type: ignore[no-untyped-call]
        except Exception as error:
            # The library raises errors of many types, its own and those of cryptography. With any of them, the version is not verified.
            return " ".join(str(error).split())[:300] or type(error).__name__
    return None


def listed(signature: Path) -> list[str]:
    """The names of the files that a signature lists, without a check of the signature; none if it cannot be read."""
    try:
        payload = json.loads(signature.read_text(encoding="utf-8"))["dsseEnvelope"]["payload"]
        resources = json.loads(base64.b64decode(payload))["predicate"]["resources"]
        return [str(resource["name"]) for resource in resources]
    except (OSError, ValueError, KeyError, TypeError):
        return []
