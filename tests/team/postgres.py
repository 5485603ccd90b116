"""A PostgreSQL cluster of the test run: with passwords, on loopback, in a folder of its own, and ended by its process id."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.servers import free_port

INSTALL = "apt-get install postgresql"
USER = "redistill"
PASSWORD = "p@ss/w:rd%1"
"""Each of these characters means something in an address."""
_PR_SET_PDEATHSIG = 1


def programs() -> Path | None:
    """The folder of ``initdb`` and ``postgres``. Debian has one for each version, which is not on the path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    return next((f for f in [*folders, *([Path(on_path).resolve().parent] if on_path else [])] if (f / "initdb").is_file()), None)


def missing() -> str | None:
    """Why there is no cluster on this machine, and the command that changes it."""
    if programs() is None:
        return f"PostgreSQL is not installed; run `{INSTALL}`"
    if os.geteuid() == 0 and "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
        return f"PostgreSQL refuses to run as root, and there is no user `postgres`; run `{INSTALL}`"
    return None


@dataclass
class Cluster:
    """A server that can be stopped and started again at the same port, with the same data."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_s: float = 60.0) -> None:
        """Start it, and wait until it takes connections."""
        settings = ["listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={self.folder}", "max_connections=200"]
        # What a crash of the machine would lose is of no interest here.
        settings += ["fsync=off", "full_page_writes=off", "synchronous_commit=off"]
        command = [str(_program("postgres")), "-D", str(self.folder / "data"), *(part for each in settings for part in ("-c", each))]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_end_with_us, **_as_user()
            )
        deadline = time.monotonic() + timeout_s
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "log").read_text(encoding="utf-8")[-2000:]
            assert time.monotonic() < deadline, f"PostgreSQL is not ready after {timeout_s:.0f} s"
            time.sleep(0.05)

    def stop(self) -> None:
        """End it at once: connections are cut, as when a team restarts its database."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
            self.process = None

    def answers(self) -> bool:
        import psycopg2

        try:
            self.rows("postgres", "SELECT 1")
        except psycopg2.OperationalError:
            return False
        return True

    def rows(self, database: str, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Run one statement as the administrator; returns its rows, if it has any."""
        import psycopg2

        with closing(psycopg2.connect(host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(query, values)
                return list(cursor.fetchall()) if cursor.description else []

    def create(self, database: str, template: str = "template1") -> None:
        """A database, empty or as a copy of another one that nobody uses at the moment."""
        self.rows("postgres", f'CREATE DATABASE "{database}" TEMPLATE "{template}"')

    def address(self, database: str, driver: str = "", user: str = USER, password: str = PASSWORD, port: int | None = None) -> str:
        """As MLflow takes it, and with ``+asyncpg`` Prefect."""
        return f"postgresql{driver}://{user}:{quote(password, safe='')}@127.0.0.1:{port or self.port}/{database}"

    def text(self, database: str) -> str:
        """All that a database holds, as SQL."""
        command = [str(_program("pg_dump")), "--inserts", "--host=127.0.0.1", f"--port={self.port}", f"--username={USER}", database]
        return subprocess.run(command, env={**os.environ, "PGPASSWORD": PASSWORD}, check=True, capture_output=True, text=True).stdout


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster while the block runs.

    Its folder is not one of pytest, which only their owner may enter: the server runs as another user, because it refuses to run as root.
    """
    folder = Path(tempfile.mkdtemp(prefix="redistill-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        (folder / "password").write_text(PASSWORD, encoding="utf-8")
        (folder / "password").chmod(0o644)
        options = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={folder / 'password'}", "--encoding=UTF8", "--locale=C.UTF-8"]
        command = [str(_program("initdb")), "--no-sync", "-D", str(folder / "data"), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, **_as_user())
        assert done.returncode == 0, done.stderr
        made = Cluster(folder)
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> Path:
    folder = programs()
    assert folder is not None, missing()
    return folder / name


def _as_user() -> dict[str, Any]:
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def _end_with_us() -> None:
    """A test run that is killed leaves no server behind. SIGINT is the signal on which PostgreSQL ends without waiting for its clients."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
