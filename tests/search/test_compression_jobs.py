"""A compression tells what it does while it runs, and fails as itself."""

from pathlib import Path

import pytest

from search.compression_jobs import CompressionJob, _stream, run_here
from trainables.compression.config import CompressionConfig


@pytest.fixture
def job(tmp_path: Path) -> CompressionJob:
    return CompressionJob(
        number=3,
        checkpoint=str(tmp_path / "nowhere"),
        data_folder=str(tmp_path),
        config=CompressionConfig(),
        output=str(tmp_path / "bundle"),
        text_columns=("title",),
        metric="roc_auc",
        lineage={},
        num_threads=1,
    )


def test_a_stream_begins_with_a_line_and_raises_what_the_job_raised(job: CompressionJob) -> None:
    stream = _stream(job)

    assert next(stream) == "trial 3: its compression begins"
    with pytest.raises(ValueError, match="nowhere holds no checkpoint"):
        next(stream)


def test_one_that_fails_here_does_not_keep_the_others_from_running(job: CompressionJob) -> None:
    outcomes = [outcome for _, outcome in run_here([job, job], lambda _: None)]

    assert [type(outcome) for outcome in outcomes] == [ValueError, ValueError]
