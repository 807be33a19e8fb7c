"""What trials take is measured through the real loop, in a process that may die of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spaces.trial_config import TrialConfig
from tests.trainables.short_of_memory import MAX_TOKENS, write_long_rows
from trainables.data.config import Columns, DataConfig
from trainables.data.table import load_clicks
from trainables.deepspeed_config import DeepSpeedConfig
from trainables.encoder import EncoderConfig
from trainables.footprint import Footprint, measure_footprints
from trainables.memory_bound import PROCESS_BYTES, EncoderShape, bound_memory
from trainables.task import TaskConfig
from trainables.trial_setup import TrialSetup


@pytest.fixture(scope="module")
def long_rows(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    return write_long_rows(tmp_path_factory.mktemp("long"))


def test_a_larger_batch_takes_more_memory_within_the_bound(
    long_rows: DataConfig, tiny_encoder: Path
) -> None:
    table = load_clicks(long_rows, TaskConfig())
    setup = TrialSetup(
        data_folder="",
        data_fingerprint="",
        encoder_fingerprint="",
        encoder=EncoderConfig(name=str(tiny_encoder), max_tokens=MAX_TOKENS),
        deepspeed=DeepSpeedConfig(precision="fp32"),
    )
    trials = [
        TrialConfig(method="lora", tuned_layers=1, batch_size=16),
        TrialConfig(method="full", batch_size=16),
        TrialConfig(method="full", batch_size=200),
    ]

    top, small, large = measure_footprints(table, setup, trials, use_gpu=False)

    assert [found.trial for found in (top, small, large)] == trials
    assert small.memory_bytes < large.memory_bytes
    shape = EncoderShape.read(tiny_encoder)
    for found in (top, small, large):
        rows = found.trial.batch_size
        bound = bound_memory(shape, found.trial, rows=rows, num_tokens=MAX_TOKENS)
        assert 0.3e9 < found.memory_bytes < PROCESS_BYTES + bound
        assert found.step_seconds > 0
        assert found.evaluate_seconds > 0
        assert found.gpu_bytes == 0
    num_train = int((table.split == 0).sum())
    assert (small.num_steps, large.num_steps) == (-(-num_train // 16), -(-num_train // 200))


def test_a_trials_time_is_its_start_and_its_epochs() -> None:
    footprint = Footprint(
        trial=TrialConfig(batch_size=8),
        num_rows=80,
        rows_per_step=8,
        step_seconds=2.0,
        evaluate_seconds=3.0,
        start_seconds=5.0,
        memory_bytes=1e9,
        gpu_bytes=0.0,
    )

    assert footprint.samples_per_second == 4
    assert footprint.seconds(1) == 5 + 23
    assert footprint.seconds(2.5) == 5 + 57.5


def test_rows_without_a_click_can_be_measured(tiny_encoder: Path, tmp_path: Path) -> None:
    # One impression a row, one click in a hundred: the rows that are chosen hold none.
    rng = np.random.default_rng(0)
    titles = [" ".join(rng.choice(list("abcdefgh"), rng.integers(1, 8))) for _ in range(1_000)]
    clicked = np.zeros(1_000, dtype=int)
    clicked[rng.choice(1_000, 10, replace=False)] = 1
    titles = [t if c == 0 else "red" for t, c in zip(titles, clicked, strict=True)]
    pd.DataFrame({"title": titles, "clicked": clicked}).to_parquet(tmp_path / "log.parquet")
    columns = Columns(text=("title",), label="clicked")
    config = DataConfig(path=str(tmp_path / "log.parquet"), columns=columns)
    encoder = EncoderConfig(name=str(tiny_encoder), max_tokens=16)
    setup = TrialSetup(
        data_folder="",
        data_fingerprint="",
        encoder_fingerprint="",
        encoder=encoder,
        deepspeed=DeepSpeedConfig(precision="fp32"),
    )

    (found,) = measure_footprints(
        load_clicks(config, TaskConfig()),
        setup,
        [TrialConfig(batch_tokens=64, learning_rate=1e-6)],
        use_gpu=False,
    )

    assert found.step_seconds > 0
    # A typical row has about six tokens.
    assert 6 <= found.rows_per_step <= 20
