"""Energy that the processor used, where the system reports it."""

from __future__ import annotations

from pathlib import Path


def energy_joules(powercap: Path = Path("/sys/class/powercap")) -> float | None:
    """Energy that this machine's processors have used so far, as Linux reports it (RAPL); None where it does not.

    Source: Linux kernel documentation, Power Capping Framework, ``energy_uj``.
    """
    try:
        zones = [p for p in powercap.glob("intel-rapl:*") if p.name.count(":") == 1]
        return sum(int((zone / "energy_uj").read_text(encoding="ascii")) for zone in zones) / 1e6 if zones else None
    except (OSError, ValueError):
        return None
