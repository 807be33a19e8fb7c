"""How much memory this machine, or the container that this process runs in, can still give."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

GB = 1e9
"""Bytes."""

UNLIMITED = 2**60
"""Control groups version 1 say "no limit" with a number near 2**63."""


def free_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> float:
    """Return how many bytes new processes can take before somebody is killed for it.

    The least of what the machine has free and what every control group around this process has left
    (version 2, then version 1). What files occupy counts as free: it is given back when needed.

    Args:
        proc: Where Linux tells of memory and processes.
        cgroups: Where control groups are mounted.
    """
    left = [_available(proc / "meminfo")]
    for folder, limit_name, usage_name in _groups(proc / "self" / "cgroup", cgroups):
        limit, usage = _number(folder / limit_name), _number(folder / usage_name)
        if limit is not None and usage is not None and limit < UNLIMITED:
            left.append(limit - max(0, usage - _inactive_files(folder / "memory.stat")))
    return max(0.0, float(min(left)))


def free_gpu_memory(command: str = "nvidia-smi") -> float | None:
    """Return the free bytes of the GPU that has fewest; None where that can't be told.

    Asked of the driver's tool: torch would open a context of half a GB on each GPU to find out.

    Args:
        command: The driver's tool.
    """
    try:
        found = subprocess.run(
            [command, "--query-gpu=memory.free", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return min(float(line) * 2**20 for line in found.stdout.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def format_gb(num_bytes: float) -> str:
    """Write a number of bytes in GB, with two digits below ten."""
    return f"{num_bytes / GB:.2g} GB" if num_bytes < 10 * GB else f"{num_bytes / GB:.0f} GB"


def _available(meminfo: Path) -> int:
    for line in meminfo.read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{meminfo} does not say MemAvailable")


def _groups(own: Path, cgroups: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield the folders of this process's groups and of those around them, with their files."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = cgroups, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, names = cgroups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        inside = root / path.lstrip("/")
        # Inside a container the path may be the host's; what is mounted is then the group itself.
        for folder in (inside, *inside.parents):
            if folder.is_relative_to(root):
                yield folder, *names


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # No such group, or "max".


def _inactive_files(stat: Path) -> int:
    try:
        words = (line.split() for line in stat.read_text(encoding="utf-8").splitlines())
        found = {name: int(value) for name, value in words}
    except (OSError, ValueError):
        return 0
    # Version 1 has the totals of the groups inside under another name.
    return found.get("total_inactive_file", found.get("inactive_file", 0))
