"""Give a file a second place."""

import os
import shutil
from pathlib import Path


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name: a hard link, so that it is on disk once, or a copy.

    Args:
        source: A file that nobody writes to any more.
        target: Must not exist.

    Raises:
        OSError: if the file is gone, or there is no room for a copy.
    """
    try:
        os.link(source, target)
    except OSError:
        # Another file system, or one without links.
        shutil.copyfile(source, target)
        # As for the file itself: after a loss of power, size would not tell.
        with target.open("rb+") as file:
            os.fsync(file.fileno())
