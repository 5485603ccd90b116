"""Checks the database of a Prefect server before the server starts, which would migrate an older one without a backup, and fail on a newer one."""

from __future__ import annotations

import asyncio
import os
import re
from importlib.metadata import version
from pathlib import Path

from redistill.errors import ConfigError
from redistill.runtime.schema_revisions import revisions, sqlite_revision

CONNECTION = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
"""The variable, and its earlier name."""
_MIGRATIONS = "server/database/_migrations/versions"
_TIMEOUT_S = 20.0
_MIGRATE = "prefect server database upgrade -y"


def check_prefect_database(home: Path) -> None:
    """Compare the schema of the database that a server with this home would use with that of the installed Prefect. An empty one is fine.

    Raises:
        ConfigError: it has another schema, or the database that the environment names cannot be reached.
    """
    address = next((os.environ[name] for name in CONNECTION if os.environ.get(name)), None)
    if address is None:
        file = home / "prefect.db"
        _refuse_other(
            str(file),
            sqlite_revision(file),
            "sqlite",
            f"copy the file to a safe place, then migrate it: `PREFECT_HOME={home.absolute()} {_MIGRATE}`",
        )
    elif address.startswith("postgresql"):
        backup = f"back it up with pg_dump, then migrate it with the same {CONNECTION[0]}: `{_MIGRATE}`"
        _refuse_other(address, _postgresql_revision(address), "postgresql", backup)


def _refuse_other(database: str, revision: str | None, kind: str, how: str) -> None:
    state = "current" if revision is None else revisions("prefect", f"{_MIGRATIONS}/{kind}").state(revision)
    if state == "older":
        raise ConfigError(
            f"Prefect's database {database} was written by an older Prefect (schema {revision}); end every server that uses it, {how}"
        )
    if state == "newer":
        raise ConfigError(
            f"Prefect's database {database} was written by a newer Prefect (schema {revision}) than the installed {version('prefect')}; install the newer "
            "one again, or restore the backup from before it"
        )


def _postgresql_revision(address: str) -> str | None:
    """The revision of a database; None if it is empty.

    Raises:
        ConfigError: it cannot be reached, or refuses us.
    """
    import asyncpg

    async def read() -> str | None:
        connection = await asyncpg.connect(re.sub(r"^postgresql(\+\w+)?:", "postgresql:", address), timeout=_TIMEOUT_S)
        try:
            return await connection.fetchval("SELECT version_num FROM alembic_version")  # type: ignore[no-any-return]
        except asyncpg.UndefinedTableError:
            return None
        finally:
            await connection.close()

    try:
        return asyncio.run(read())
    except (asyncpg.PostgresError, OSError, TimeoutError, ValueError) as error:
        raise ConfigError(
            f"{CONNECTION[0]}={address}: the database cannot be used ({(str(error).splitlines() or [type(error).__name__])[0][:200]}); correct user, password, "
            "host and name, or start it; the name of a new one is made with `createdb`"
        ) from None
