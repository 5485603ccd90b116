"""``python -m tests.in_fork MODULE ARGUMENT ...``: runs a module as a fork of the server that the environment names, for what starts processes by their command."""

from __future__ import annotations

import sys

from tasks.running.fork_request import in_fork

if __name__ == "__main__":
    code = in_fork(sys.argv[1], sys.argv[2:])
    sys.exit("error: there is no fork server" if code is None else code)
