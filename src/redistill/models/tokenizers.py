"""Token ids of a text, and digests that show whether two tokenizers are the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redistill.io.digests import canonical_digest
from redistill.io.json import read_json
from redistill.models.loading import open_tokenizer

_TOGETHER = 1000
"""Texts that are encoded in one call: offsets and masks of a text take more memory than its ids."""


def load_tokenizer(path: str | os.PathLike[str]) -> Any:
    tokenizer = open_tokenizer(path)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def encode(text: str, tokenizer: Any) -> list[int]:
    """Token ids without special tokens, because the template already contains everything."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def encode_all(texts: Sequence[str], tokenizer: Any, *, as_text: bool = False) -> list[list[int]]:
    """As ``encode``, of many texts at once, which is several times as fast.

    Args:
        as_text: the texts were written by people or models, so a control token that is spelled in one is text too.
    """
    parts = (list(texts[begin : begin + _TOGETHER]) for begin in range(0, len(texts), _TOGETHER))
    options = {"split_special_tokens": True} if as_text else {}
    return [list(ids) for part in parts for ids in tokenizer(part, add_special_tokens=False, **options)["input_ids"]]


def tokenizer_digest(tokenizer: Any) -> str:
    """Digest of the id → token map; two tokenizers with the same digest may share soft targets."""
    return vocabulary_digest(tokenizer.get_vocab())


def vocabulary_size(tokenizer: Any) -> int:
    """One more than the largest id: how many rows of a head have a token, however far it was padded."""
    largest: int = max(tokenizer.get_vocab().values())
    return 1 + largest


def vocabulary_digest(ids: dict[str, int]) -> str:
    digest = hashlib.sha256()
    for index, token in sorted((i, t) for t, i in ids.items()):
        digest.update(f"{index}\t{token}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def tokenizer_digest_of(path: str | os.PathLike[str]) -> str:
    """The digest of a directory's id → token map, read without transformers where its file allows."""
    file = Path(path) / "tokenizer.json"
    if not file.is_file():
        return tokenizer_digest(load_tokenizer(path))
    from tokenizers import Tokenizer

    return vocabulary_digest(Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True))


def tokenizer_files_digest(root: Path) -> str:
    """Digest of how text is cut and of what ids mean: merges, normaliser and pre-tokeniser change completions too."""
    file = root / "tokenizer.json"
    if not file.is_file():
        return tokenizer_digest_of(root)
    tree = read_json(file)
    # The caller sets padding and truncation, and every save rewrites them.
    return canonical_digest({k: v for k, v in tree.items() if k not in ("padding", "truncation")})
