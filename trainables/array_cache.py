"""Arrays on disk that one process makes and all others map, within a budget of disk space."""

import contextlib
import errno
import fcntl
import io
import logging
import math
import mmap
import os
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

log = logging.getLogger(__name__)

NO_ROOM = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOLCK,
        errno.EOPNOTSUPP,
        errno.EIO,
        errno.ESTALE,
    }
)
"""Errors of a place where files can't be kept."""

CACHE_FOLDER = "cache"
"""Inside the folder of the prepared data, whose fingerprint covers text, tokens and encoder."""

VARIANT_PREFIX = "variants-"
"""How the names of files begin that may be removed to make room; all others stay."""

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredArray:
    """An array on its way to disk, which needn't be in memory as a whole."""

    dtype: np.dtype
    """Type of its numbers."""
    shape: tuple[int, ...]
    """Shape of the whole."""
    blocks: Iterable[np.ndarray]
    """Its parts, one after the other along the first axis; computed as they are written."""

    def header(self) -> bytes:
        """Return what comes before the numbers in a file: that of numpy's ``.npy`` format."""
        file = io.BytesIO()
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": self.shape,
        }
        np.lib.format.write_array_header_1_0(file, header)
        return file.getvalue()

    @property
    def num_bytes(self) -> int:
        """Size in a file, with the header."""
        return len(self.header()) + math.prod(self.shape) * self.dtype.itemsize


class ArrayCache:
    """A folder of array files, each of them made when it is first needed, once, for all processes.

    A file lock lets one process make a file while others wait for it, on every machine that sees
    the folder. The kernel frees the lock if that process is killed, and a file gets its name when
    it is complete and on the disk, so a part of one is never read.

    The budget limits disk space. Memory needs none of its own: files are mapped, so the processes
    of a machine share their pages, and the kernel gives these up whenever memory is wanted for
    something else. Where a new file doesn't fit, the variants' files that were not used for longest
    are removed. One that some process has mapped stays, since to remove it would free nothing; and
    if all that may go were still too little, nothing is removed.
    """

    def __init__(self, folder: Path, *, budget_gb: float) -> None:
        """Name the folder; it is created with the first file.

        Args:
            folder: Where the files are; its parent exists.
            budget_gb: Disk space for all files together, in 10^9 bytes.
        """
        self._folder = folder
        self._budget_gb = budget_gb
        self._has_warned = False

    def open(
        self,
        name: str,
        make: Callable[[], Sequence[StoredArray]],
        *,
        fits: Callable[[Arrays], bool],
    ) -> Arrays | None:
        """Map a file's arrays; make it if nobody has, or wait for whoever is at it.

        Args:
            name: The file's name, which identifies what it holds.
            make: Returns the arrays; called only if there is no such file.
            fits: Whether arrays that were found are what they should be; others are made anew.

        Returns:
            The arrays, not writable; the file is in use while one of them exists. None where there
            is no room: the first time with a warning.
        """
        path = self._folder / name
        try:
            arrays = _read(path, fits)
            if arrays is None:
                self._folder.mkdir(exist_ok=True)
                with _alone(path.with_name(f"{path.name}.lock")):
                    arrays = _read(path, fits)
                    if arrays is None:
                        self._write(path, make())
                        arrays = _read(path, fits)
        except OSError as error:
            if error.errno not in NO_ROOM:
                # Not the file's fault: what it is made of can't be read, or memory ran out.
                raise
            self._warn(path, error)
            return None
        if arrays is None:
            self._warn(path, "it was removed as soon as it was written")
        return arrays

    def _warn(self, path: Path, error: object) -> None:
        if not self._has_warned:
            warnings.warn(
                f"{path} can't be kept ({error}); trials compute what would be in it themselves, "
                "which is slower",
                RuntimeWarning,
                stacklevel=3,
            )
        self._has_warned = True

    def _write(self, path: Path, arrays: Sequence[StoredArray]) -> None:
        # Where a shared file system ignores locks, two make the same file and don't meet.
        partial = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}")
        path.unlink(missing_ok=True)
        num_bytes = sum(array.num_bytes for array in arrays)
        try:
            with self._reserve(partial, num_bytes) as file:
                for array in arrays:
                    file.write(array.header())
                    for block in array.blocks:
                        file.write(np.ascontiguousarray(block, dtype=array.dtype).data)
                assert file.tell() == num_bytes, "blocks that don't add up to their array"
                file.flush()
                os.fsync(file.fileno())
                partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)
        log.info("made %s", path)

    def _reserve(self, partial: Path, num_bytes: int) -> IO[bytes]:
        """Open a file of its final size, so that a full disk is found before any work is done.

        Raises:
            OSError: if there is no room.
        """
        # One process at a time, so that two files don't take the same room.
        with _alone(self._folder / "budget.lock"):
            self._make_room(num_bytes)
            file = partial.open("xb")
            try:
                # Held until the file is closed; tells it from what a killed process left.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            except OSError:
                file.close()
                partial.unlink()
                raise
        return file

    def _make_room(self, num_bytes: int) -> None:
        used = 0
        removable: list[tuple[float, int, Path]] = []
        for path in self._folder.iterdir():
            # A file may get its name, and lose the one that was listed, at any time.
            with contextlib.suppress(FileNotFoundError):
                if path.name.startswith(".") and not _in_use(path):
                    path.unlink()
                    continue
                found = path.stat()
                used += found.st_size
                if path.name.startswith(VARIANT_PREFIX) and path.suffix == ".npy":
                    removable.append((found.st_mtime, found.st_size, path))
        excess = used + num_bytes - int(self._budget_gb * 1e9)
        chosen: list[Path] = []
        for _, size, path in sorted(removable):
            if excess <= 0:
                break
            if not _in_use(path):
                chosen.append(path)
                excess -= size
        if excess > 0:
            raise OSError(
                errno.EDQUOT,
                f"it needs {num_bytes / 1e9:.3g} GB and {used / 1e9:.3g} GB are used, but "
                f"encoder.cache_gb allows {self._budget_gb:g}",
            )
        for path in chosen:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait for a lock file and hold it; afterwards it is gone."""
    while True:
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever held it has removed it meanwhile: the lock is now on a newer file.
            if not _is_at(file, path):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _in_use(path: Path) -> bool:
    """Tell whether some process writes a file, or has it mapped."""
    try:
        # For writing, because locks on a network file system ask for it.
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        # Another user's file isn't ours to remove either.
        return True
    except FileNotFoundError:
        pass  # Somebody else has removed it.
    return False


def _read(path: Path, fits: Callable[[Arrays], bool]) -> Arrays | None:
    """Map a file; None if it isn't there or isn't whole."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        fcntl.flock(file, fcntl.LOCK_SH)
        try:
            arrays = _map(file)
        except ValueError:
            return None
    if not fits(arrays):
        return None
    if path.name.startswith(VARIANT_PREFIX):
        # Its time of change says when it was last used.
        with contextlib.suppress(OSError):
            os.utime(path)
    return arrays


def _map(file: IO[bytes]) -> Arrays:
    """Map the arrays of a file, one ``.npy`` after the other.

    Raises:
        ValueError: if they aren't complete.
    """
    # The map has a duplicate of the file's descriptor, and with it the lock, as long as it exists.
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    arrays = []
    at = 0
    while at < len(mapped):
        file.seek(at)
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("another version of the .npy format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        start, count = file.tell(), math.prod(shape)
        arrays.append(np.frombuffer(mapped, dtype, count=count, offset=start).reshape(shape))
        at = start + count * dtype.itemsize
    return tuple(arrays)
