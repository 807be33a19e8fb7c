from pathlib import Path

import pytest

from cluster.memory import format_gb, free_gpu_memory, free_memory

GIB = 2**30


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with 8 GiB available, and a process in no control group."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text(
        f"MemTotal: {16 * 2**20} kB\nMemAvailable: {8 * 2**20} kB\n"
    )
    return tmp_path


def enter(machine: Path, line: str, folder: str, files: dict[str, str]) -> None:
    """Put the process into a control group."""
    (machine / "proc" / "self" / "cgroup").write_text(line + "\n")
    group = machine / "cgroup" / folder
    group.mkdir(parents=True)
    for name, text in files.items():
        (group / name).write_text(text)


def free(machine: Path) -> float:
    return free_memory(machine / "proc", machine / "cgroup")


def test_without_a_container_the_machine_is_the_limit(machine: Path) -> None:
    assert free(machine) == 8 * GIB


@pytest.mark.parametrize(
    ("line", "folder", "limit", "usage", "inactive"),
    [
        ("0::/", "", "memory.max", "memory.current", "inactive_file"),
        ("0::/outer", "outer", "memory.max", "memory.current", "inactive_file"),
        ("0::/outer/inner", "outer", "memory.max", "memory.current", "inactive_file"),
        ("0::/host/only", "", "memory.max", "memory.current", "inactive_file"),
        ("4:cpu,memory:/a", "memory/a", "memory.limit_in_bytes", "memory.usage_in_bytes",
         "total_inactive_file"),
    ],
)  # fmt: skip
def test_a_containers_limit_holds_and_its_file_cache_is_free(
    machine: Path, line: str, folder: str, limit: str, usage: str, inactive: str
) -> None:
    files = {limit: str(6 * GIB), usage: str(5 * GIB), "memory.stat": f"{inactive} {2 * GIB}\n"}
    enter(machine, line, folder, files)

    assert free(machine) == 3 * GIB


@pytest.mark.parametrize(
    ("line", "folder", "files"),
    [
        ("0::/", "", {"memory.max": "max\n", "memory.current": "5"}),
        (
            "4:memory:/",
            "memory",
            {"memory.limit_in_bytes": "9223372036854771712", "memory.usage_in_bytes": "5"},
        ),
        ("3:cpu:/", "cpu", {"memory.limit_in_bytes": "1", "memory.usage_in_bytes": "0"}),
    ],
)
def test_a_group_without_a_limit_limits_nothing(
    machine: Path, line: str, folder: str, files: dict[str, str]
) -> None:
    enter(machine, line, folder, files)

    assert free(machine) == 8 * GIB


def test_a_container_over_its_limit_has_nothing_left(machine: Path) -> None:
    enter(machine, "0::/", "", {"memory.max": "100", "memory.current": "200"})

    assert free(machine) == 0


def test_this_machine_has_some_memory() -> None:
    assert 0 < free_memory() < 2**50


def test_the_fullest_gpu_counts(tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf '80000\\n1024\\n'\n")
    tool.chmod(0o755)

    assert free_gpu_memory(str(tool)) == 1024 * 2**20


@pytest.mark.parametrize("script", ["echo [N/A]", "exit 9", None])
def test_what_the_driver_does_not_tell_is_not_known(tmp_path: Path, script: str | None) -> None:
    tool = tmp_path / "nvidia-smi"
    if script is not None:
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)

    assert free_gpu_memory(str(tool)) is None


@pytest.mark.parametrize(("num_bytes", "text"), [(1.26e9, "1.3 GB"), (24e9, "24 GB")])
def test_memory_is_written_with_two_digits(num_bytes: float, text: str) -> None:
    assert format_gb(num_bytes) == text
