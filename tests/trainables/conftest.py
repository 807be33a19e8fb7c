"""A small table whose clicks depend on its words, prepared for the tiny encoder."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cluster.resources import TrialResources
from trainables.data.config import Columns, DataConfig, SplitConfig
from trainables.data.prepared import prepare
from trainables.data.table import load_clicks
from trainables.deepspeed_config import DeepSpeedConfig
from trainables.encoder import EncoderConfig, encoder_fingerprint
from trainables.task import TaskConfig
from trainables.trial_setup import TrialSetup

LIKED = ("red", "soft", "new")
DISLIKED = ("old", "cheap", "blue")


@pytest.fixture(scope="session")
def tiny_table(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """240 titles of letters and words; the words decide the click rate."""
    rng = np.random.default_rng(0)
    titles, clicks = [], []
    for number in range(240):
        liked = number % 2 == 0
        word = rng.choice(LIKED if liked else DISLIKED)
        filler = " ".join(rng.choice(list("abcdefgh"), size=rng.integers(1, 6)))
        titles.append(f"{filler} {word}")
        clicks.append(rng.binomial(40, 0.5 if liked else 0.1))
    path = tmp_path_factory.mktemp("table") / "clicks.parquet"
    pd.DataFrame({"title": titles, "clicks": clicks, "impressions": 40}).to_parquet(path)
    columns = Columns(text=("title",), clicks="clicks", impressions="impressions")
    return DataConfig(path=str(path), columns=columns, split=SplitConfig(fractions=(0.6, 0.2, 0.2)))


@pytest.fixture(scope="session")
def tiny_setup(
    tiny_table: DataConfig, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrialSetup:
    """What trials over that table share."""
    encoder = EncoderConfig(name=str(tiny_encoder), max_tokens=16)
    table = load_clicks(tiny_table, TaskConfig())
    data = prepare(table, encoder, tmp_path_factory.mktemp("prepared"))
    return TrialSetup(
        data_folder=str(data.folder),
        data_fingerprint=data.fingerprint,
        encoder_fingerprint=encoder_fingerprint(tiny_encoder),
        encoder=encoder,
        deepspeed=DeepSpeedConfig(precision="fp32"),
        resources=TrialResources(),
    )
