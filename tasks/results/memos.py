"""Results that are remembered in ``.redistill`` are signed when they are made, so that nobody edits the past of a model: an edited one is made again."""

from __future__ import annotations

from pathlib import Path

from redistill.errors import RedistillError
from redistill.io.atomic import replacing
from redistill.io.digests import tree_digest
from redistill.provenance import keys
from tasks.paths import STATE

_SIGNATURES = STATE / "memo-signatures"


def remember(memo: Path) -> None:
    """Sign a file or folder that was just made. Where the signing key is not here, it stays unsigned, and is made again the next time."""
    try:
        signature = keys.sign_text(_text(memo), keys.signing_key(STATE))
    except RedistillError as error:
        print(f"{memo} is not remembered, because it cannot be signed: {error}", flush=True)
        return
    with replacing(_signature(memo)) as temporary:
        temporary.write_text(signature, encoding="utf-8")


def remembered(memo: Path) -> bool:
    """Whether it is there, as it was signed. If it was edited, one line says so."""
    if not memo.exists():
        return False
    try:
        signature = _signature(memo).read_text(encoding="utf-8")
        holds = keys.text_is_signed(_text(memo), signature, keys.public_keys(STATE)) is True
    except (OSError, UnicodeDecodeError, RedistillError):
        holds = False
    if not holds:
        print(f"{memo} is not what was measured and signed on this machine, so it is not used; it is measured again", flush=True)
    return holds


def signatures() -> list[bytes]:
    """The signatures of everything that is remembered here."""
    return [file.read_bytes() for file in sorted(_SIGNATURES.glob("*.sig"))]


def _signature(memo: Path) -> Path:
    return _SIGNATURES / f"{memo.name}.sig"


def _text(memo: Path) -> str:
    return f"memo\n{memo.name}\n{tree_digest(memo)}"
