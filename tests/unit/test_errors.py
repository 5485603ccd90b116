"""Messages have no password of an address, however it is written there."""

from __future__ import annotations

import pytest

from redistill.errors import ConfigError, RegistryUnavailable, StageError, one_line, without_credentials


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ann:p%40ss@127.0.0.1:5432/db", "postgresql://127.0.0.1:5432/db"),
        ("postgresql+asyncpg://ann:p@ss/w:rd%1@host/db", "postgresql+asyncpg://host/db"),
        ("http://ann:1234@host/", "http://host/"),
        ("http://token@host/x", "http://host/x"),
        ("at http://a:b@c/d, write to x@y.example", "at http://c/d, write to x@y.example"),
        ("http://localhost:5000/models/x@champion", "http://localhost:5000/models/x@champion"),
        ("http://[::1]:5000/models/x@champion", "http://[::1]:5000/models/x@champion"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("sqlite:////srv/a/b@c", "sqlite:////srv/a/b@c"),
    ],
)
def test_credentials_go_and_the_rest_stays(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
    for error in (ConfigError(text), RegistryUnavailable(text), StageError(text, "generate", 1)):
        assert str(error) == shown == one_line(error) and shown in repr(error) and (text == shown or text not in repr(error))
