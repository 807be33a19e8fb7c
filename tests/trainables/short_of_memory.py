"""A table whose rows are all long, and processes that may take only so much more memory."""

import resource
import string
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainables.data.config import Columns, DataConfig, SplitConfig
from trainables.trial import OneWorkerTrial

NUM_ROWS = 2_600
MAX_TOKENS = 128
ROOM_BYTES = 900_000_000
"""Enough for a batch of 32 long rows under the tests' tiny encoder, not for one of 1,800."""


def write_long_rows(folder: Path) -> DataConfig:
    """Write titles that fill the tiny encoder's positions."""
    rng = np.random.default_rng(0)
    letters = list(string.ascii_lowercase)
    path = folder / "long.parquet"
    pd.DataFrame(
        {
            "title": [" ".join(rng.choice(letters, size=140)) for _ in range(NUM_ROWS)],
            "clicks": rng.binomial(40, 0.3, size=NUM_ROWS),
            "impressions": 40,
        }
    ).to_parquet(path)
    columns = Columns(text=("title",), clicks="clicks", impressions="impressions")
    return DataConfig(path=str(path), columns=columns, split=SplitConfig(fractions=(0.7, 0.2, 0.1)))


def leave_room(num_bytes: int = ROOM_BYTES) -> None:
    """Let this process take only so many bytes more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + num_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


class ShortTrial(OneWorkerTrial):
    """The real trial, on a machine without much memory."""

    def setup(self, config: dict[str, Any]) -> None:
        import deepspeed  # noqa: F401 - what is loaded shall not count
        import peft  # noqa: F401
        import transformers  # noqa: F401

        leave_room()
        super().setup(config)
