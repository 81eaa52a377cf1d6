"""How many CPU cores this process may use: the container's limit, not the host's count."""

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def cpu_limit(cgroup: Path = CGROUP, own: Path = OWN) -> int:
    """Cores allowed by CPU affinity and by the cgroup quota (v2 or v1), at least 1.

    `cgroup` is where the hierarchy is mounted, `own` names this process's place in it.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota_v2(cgroup, own) or _quota_v1(cgroup)
    return max(1, min(allowed, int(quota))) if quota else allowed


def _quota_v2(cgroup: Path, own: Path) -> float | None:
    """The smallest quota from the process's own group up to the root: each of them holds."""
    place = cgroup / _place(own)
    folders = (place, *(parent for parent in place.parents if parent.is_relative_to(cgroup)))
    return min((quota for folder in folders if (quota := _quota_of(folder))), default=None)


def _place(own: Path) -> str:
    """The process's path below the root, "" when nothing tells it."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return ""
    return next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")


def _quota_of(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(cgroup: Path) -> float | None:
    try:
        quota = int((cgroup / "cpu" / "cpu.cfs_quota_us").read_text())
        period = int((cgroup / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 else None
