"""A systemd unit that runs the supervisor of this project at boot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from redistill.errors import ConfigError
from redistill.io.atomic import replacing
from redistill.params import load_params
from tasks.operations.addresses import MLFLOW, PREFECT_API, Addresses
from tasks.paths import STATE

_TEMPLATE = """\
[Unit]
Description=redistill, project {name}
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
WorkingDirectory={folder}
Environment=PYTHONPATH={modules}
{environment}# Secrets, such as REDISTILL_TEACHER_API_KEY=..., in a file that only this user can read.
EnvironmentFile=-{folder}/.redistill/secrets.env
ExecStart={python} -m tasks.operations.supervisor {host} {prefect_port} {mlflow_port}
Restart=always
RestartSec=10
# The runner ends its runs, then the servers end.
TimeoutStopSec=180
KillMode=mixed

[Install]
WantedBy=default.target
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit's file, and what to do with it."""

    file: Path
    lines: list[str]


def write_unit(addresses: Addresses) -> Unit:
    """Write the unit into the project's state folder; installing it is the user's own step.

    Raises:
        ConfigError: a path that systemd cannot express, or systemd-analyze reports an error.
    """
    name = load_params().data.name
    folder = Path.cwd().resolve()
    modules = os.pathsep.join(dict.fromkeys([str(folder), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]))
    for text in (str(folder), modules, sys.executable):
        if any(character in text for character in "\n\"'\\%$ "):
            raise ConfigError(f"a systemd unit cannot name the path {text!r}; use one without spaces, quotes, %, $ and backslashes")
    servers = {PREFECT_API: addresses.prefect_api, MLFLOW: addresses.mlflow}
    text = _TEMPLATE.format(
        name=name,
        folder=folder,
        modules=modules,
        environment="".join(f"Environment={key}={value}\n" for key, value in servers.items() if value),
        python=sys.executable,
        host=addresses.host,
        prefect_port=addresses.prefect_port,
        mlflow_port=addresses.mlflow_port,
    )
    unit = f"redistill-{name}.service"
    file = (STATE / "systemd" / unit).absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    checked = _verified(file)
    lines = [
        f"{file} ({checked})",
        f"install it:  mkdir -p ~/.config/systemd/user && ln -sf {file} ~/.config/systemd/user/{unit}",
        f"             systemctl --user daemon-reload && systemctl --user enable --now {unit}",
        "at boot:     loginctl enable-linger",
    ]
    return Unit(file, lines)


def _verified(file: Path) -> str:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return "not checked: systemd-analyze is not installed"
    done = subprocess.run([analyze, "verify", "--user", "--man=no", str(file)], capture_output=True, text=True, check=False)
    problems = [line for line in done.stderr.splitlines() if file.name in line]
    if done.returncode and problems:
        raise ConfigError(f"systemd-analyze reports: {' / '.join(problems)[:500]}")
    return "checked by systemd-analyze"
