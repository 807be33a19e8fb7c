"""Hash the files of a folder, and read them again only when they have changed."""

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path


def hash_files(folder: Path, names: Iterable[str]) -> str:
    """Hash some files of a folder, in the order given; equal content, equal hash.

    Returns:
        16 hexadecimal digits of SHA-256.

    Raises:
        OSError: if one can't be read.
    """
    paths = tuple(folder / name for name in names)
    stats = [path.stat() for path in paths]
    # A process that takes trial after trial asks each time.
    return _hash(paths, tuple((stat.st_size, stat.st_mtime_ns) for stat in stats))


@functools.lru_cache(maxsize=32)
def _hash(paths: tuple[Path, ...], stamps: tuple[tuple[int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
