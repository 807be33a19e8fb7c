"""Files of arrays are made once, are never half there, and give way only where that helps."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from trainables.array_cache import VARIANT_PREFIX, ArrayCache, Arrays, StoredArray

OPEN = """
import logging, os, sys, time
from pathlib import Path
import numpy as np
from trainables.array_cache import ArrayCache, StoredArray

def blocks():
    yield np.arange(500, dtype=np.int64)
    if sys.argv[3] == "stop":
        print("half", flush=True)
        time.sleep(600)
    yield np.arange(500, 1000, dtype=np.int64)

def make():
    print("made", flush=True)
    return [StoredArray(dtype=np.dtype("<i8"), shape=(1000,), blocks=blocks())]

print("ready", flush=True)
sys.stdin.readline()
cache = ArrayCache(Path(sys.argv[1]), budget_gb=1e-3)
found = cache.open(sys.argv[2], make, fits=lambda arrays: len(arrays) == 1)
print("sum", int(found[0].sum()), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def stored(*arrays: np.ndarray) -> list[StoredArray]:
    return [StoredArray(dtype=a.dtype, shape=a.shape, blocks=np.array_split(a, 3)) for a in arrays]


def numbers(num_bytes: int = 8000, value: int = 1) -> np.ndarray:
    return np.full(num_bytes // 8, value, dtype="<i8")


def open_file(
    folder: Path, name: str, array: np.ndarray | None = None, *, budget_gb: float = 1.0
) -> Arrays | None:
    wanted = numbers() if array is None else array
    return ArrayCache(folder, budget_gb=budget_gb).open(
        name,
        lambda: stored(wanted),
        fits=lambda found: len(found) == 1 and found[0].shape == wanted.shape,
    )


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def used_at(folder: Path, name: str, seconds: int) -> None:
    os.utime(folder / name, (seconds, seconds))


def start(folder: Path, name: str, then: str = "go") -> "subprocess.Popen[str]":
    """Start a process that opens a file when it is told to, and keeps it until it is told again."""
    command = [sys.executable, "-c", OPEN, str(folder), name, then]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert read_line(process) == "ready"
    return process


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def tell(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_arrays_come_back_as_they_were(folder: Path) -> None:
    arrays = [
        np.arange(7, dtype="<i8"),
        np.arange(15, dtype="<f2").reshape(5, 3),
        np.arange(5, dtype="|u1"),
    ]
    cache = ArrayCache(folder, budget_gb=1.0)

    for _ in range(2):
        found = cache.open("a.npy", lambda: stored(*arrays), fits=lambda _: True)

        assert found is not None
        for one, other in zip(found, arrays, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
            assert not one.flags.writeable


def test_one_array_is_a_file_that_numpy_reads(folder: Path) -> None:
    open_file(folder, "a.npy", numbers(value=3))

    np.testing.assert_array_equal(np.load(folder / "a.npy"), numbers(value=3))


def test_nothing_but_the_file_stays(folder: Path) -> None:
    open_file(folder, "a.npy")

    assert files(folder) == {"a.npy"}


def test_a_file_that_is_there_is_not_made_again(folder: Path) -> None:
    open_file(folder, "a.npy", numbers(value=1))

    found = open_file(folder, "a.npy", numbers(value=2))

    assert found is not None
    assert set(found[0]) == {1}


def test_who_comes_second_waits_and_reads(folder: Path) -> None:
    processes = [start(folder, "a.npy") for _ in range(2)]
    for process in processes:
        tell(process)
    outputs = [process.communicate("\n", timeout=60)[0].split("\n") for process in processes]

    assert [process.returncode for process in processes] == [0, 0]
    assert sum(output.count("made") for output in outputs) == 1
    assert all("sum 499500" in output for output in outputs)
    assert files(folder) == {"a.npy"}


def test_who_waits_for_a_builder_that_is_killed_builds(folder: Path) -> None:
    builder, waiting = start(folder, "a.npy", "stop"), start(folder, "a.npy")
    tell(builder)
    assert [read_line(builder) for _ in range(2)] == ["made", "half"]
    tell(waiting)
    time.sleep(0.5)
    assert waiting.poll() is None
    assert "a.npy" not in files(folder)

    builder.send_signal(signal.SIGKILL)
    builder.communicate(timeout=60)
    output, _ = waiting.communicate("\n", timeout=60)

    assert output.split() == ["made", "sum", "499500"]
    assert files(folder) == {"a.npy"}


def test_what_a_killed_builder_left_takes_no_room_from_others(folder: Path) -> None:
    builder = start(folder, f"{VARIANT_PREFIX}once.npy", "stop")
    tell(builder)
    assert [read_line(builder) for _ in range(2)] == ["made", "half"]
    with pytest.warns(RuntimeWarning, match="GB are used"):
        assert open_file(folder, "a.npy", budget_gb=10e-6) is None
    builder.kill()
    builder.communicate(timeout=60)

    assert open_file(folder, "a.npy", budget_gb=10e-6) is not None

    assert files(folder) == {"a.npy", f"{VARIANT_PREFIX}once.npy.lock"}


@pytest.mark.parametrize("damage", ["truncated", "shorter than a header", "empty", "overwritten"])
def test_a_damaged_file_is_made_anew(folder: Path, damage: str) -> None:
    open_file(folder, "a.npy")
    path = folder / "a.npy"
    whole = path.read_bytes()
    contents = {
        "truncated": whole[:-100],
        "shorter than a header": whole[:20],
        "empty": b"",
        "overwritten": b"\0" * len(whole),
    }
    path.write_bytes(contents[damage])

    assert open_file(folder, "a.npy") is not None

    assert path.read_bytes() == whole


def test_a_file_of_something_else_is_made_anew(folder: Path) -> None:
    open_file(folder, "a.npy", numbers(800))

    found = open_file(folder, "a.npy", numbers(1600))

    assert found is not None
    assert found[0].shape == (200,)


def test_a_budget_too_small_is_said_once_and_leaves_nothing(folder: Path) -> None:
    cache = ArrayCache(folder, budget_gb=1e-6)

    with pytest.warns(RuntimeWarning, match=r"encoder\.cache_gb allows 1e-06") as warned:
        found = [
            cache.open(name, lambda: stored(numbers()), fits=lambda _: True)
            for name in ("a.npy", "b.npy")
        ]

    assert found == [None, None]
    assert len(warned) == 1
    assert files(folder) == set()


def test_the_variants_that_were_not_used_for_longest_give_way(folder: Path) -> None:
    names = [f"{VARIANT_PREFIX}{letter}.npy" for letter in "abc"]
    for seconds, name in enumerate(names):
        open_file(folder, name)
        used_at(folder, name, seconds)
    open_file(folder, names[0])  # Now the last one used.

    assert open_file(folder, "new.npy", budget_gb=26e-6) is not None

    assert files(folder) == {names[0], names[2], "new.npy"}


def test_only_variants_give_way(folder: Path) -> None:
    open_file(folder, "original.npy")

    with pytest.warns(RuntimeWarning, match="GB are used"):
        assert open_file(folder, f"{VARIANT_PREFIX}a.npy", budget_gb=10e-6) is None

    assert files(folder) == {"original.npy"}


def test_a_file_in_use_stays_until_it_is_let_go(folder: Path) -> None:
    used, unused, new = (f"{VARIANT_PREFIX}{letter}.npy" for letter in "abn")
    for seconds, name in enumerate((used, unused)):
        open_file(folder, name)
        used_at(folder, name, seconds)
    arrays = open_file(folder, used)
    used_at(folder, used, 0)

    open_file(folder, new, budget_gb=18e-6)

    assert files(folder) == {used, new}

    del arrays
    open_file(folder, unused, budget_gb=18e-6)

    assert files(folder) == {unused, new}


def test_another_process_use_counts(folder: Path) -> None:
    name = f"{VARIANT_PREFIX}a.npy"
    process = start(folder, name)
    tell(process)
    assert [read_line(process) for _ in range(2)] == ["made", "sum 499500"]

    with pytest.warns(RuntimeWarning, match="GB are used"):
        assert open_file(folder, "b.npy", budget_gb=10e-6) is None
    process.kill()
    process.communicate(timeout=60)

    assert open_file(folder, "b.npy", budget_gb=10e-6) is not None
    assert files(folder) == {"b.npy"}


def test_nothing_gives_way_in_vain(folder: Path) -> None:
    names = {f"{VARIANT_PREFIX}{letter}.npy" for letter in "ab"}
    for name in names:
        open_file(folder, name)

    with pytest.warns(RuntimeWarning, match="GB are used"):
        assert open_file(folder, "new.npy", numbers(80_000), budget_gb=50e-6) is None

    assert files(folder) == names


@contextlib.contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Let the kernel refuse larger files, as it refuses any on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_refuses_is_said_and_leaves_nothing(folder: Path) -> None:
    with largest_file(4096), pytest.warns(RuntimeWarning, match="File too large"):
        assert open_file(folder, "a.npy") is None

    assert files(folder) == set()
    assert open_file(folder, "a.npy") is not None


def test_arrays_that_fail_to_be_computed_leave_nothing(folder: Path) -> None:
    def blocks() -> Iterator[np.ndarray]:
        yield numbers(800)
        raise MemoryError("no memory for the second half")

    array = StoredArray(dtype=np.dtype("<i8"), shape=(200,), blocks=blocks())

    with pytest.raises(MemoryError, match="second half"):
        ArrayCache(folder, budget_gb=1.0).open("a.npy", lambda: [array], fits=lambda _: True)

    assert files(folder) == set()


def test_a_folder_that_can_only_be_read_gives_what_it_holds(folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    open_file(folder, "a.npy")
    folder.chmod(0o500)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_file(folder, "a.npy") is not None
    with pytest.warns(RuntimeWarning, match="Permission denied"):
        assert open_file(folder, "b.npy") is None
