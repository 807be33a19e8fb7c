"""Measure what the trials of a study take, before it starts."""

from typing import TYPE_CHECKING

import numpy as np

from search.room import TrialCosts, frozen_seconds, variant_seconds
from search.study_config import StudyConfig
from search.trial_kinds import describe_kind, sizes_to_measure, trial_kinds
from spaces.trial_config import TrialConfig
from trainables.deepspeed_config import settle_precision
from trainables.encoder import find_encoder
from trainables.footprint import MeasuredTooLargeError, measure_footprints
from trainables.memory_bound import EncoderShape, bound_memory, most_rows
from trainables.out_of_memory import suggest_smaller
from trainables.trial_setup import TrialSetup

if TYPE_CHECKING:
    from trainables.data.table import ClickTable


def measure_costs(config: StudyConfig, table: "ClickTable", *, use_gpu: bool) -> TrialCosts:
    """Measure each kind of trial of a study on this machine.

    Args:
        config: The study.
        table: Its data.
        use_gpu: Whether trials run on this machine's GPU.

    Raises:
        ValueError: if a trial runs out of memory, with what would fit.
    """
    encoder = find_encoder(config.encoder)
    shares = trial_kinds(config)
    setup = TrialSetup(
        data_folder="",
        data_fingerprint="",
        encoder_fingerprint="",
        task=config.task,
        encoder=config.encoder,
        deepspeed=settle_precision(config.deepspeed, use_gpu=use_gpu),
        resources=config.resources,
    )
    shape, num_tokens = EncoderShape.read(encoder), config.encoder.max_tokens

    def expected_bytes(kind: TrialConfig) -> float:
        rows = most_rows(kind, num_tokens=num_tokens)
        return bound_memory(shape, kind, rows=rows, num_tokens=num_tokens)

    # Small ones first: a process gives little of what it once took back to the system.
    kinds = sorted(sizes_to_measure(shares), key=expected_bytes)
    try:
        footprints = measure_footprints(table, setup, kinds, use_gpu=use_gpu)
    except MeasuredTooLargeError as error:
        raise ValueError(_explain(error, config.deepspeed.micro_batch_rows)) from error
    num_rows = [int(np.sum(table.split == part)) for part in (0, 1)]
    return TrialCosts(
        footprints=tuple(footprints),
        shares=shares,
        search=config.search,
        frozen_seconds=frozen_seconds(footprints, config, encoder, num_rows),
        variant_seconds=variant_seconds(footprints, config, encoder, num_rows),
        micro_batch_rows=config.deepspeed.micro_batch_rows,
    )


def _explain(error: MeasuredTooLargeError, micro_batch_rows: int | None) -> str:
    advice = suggest_smaller(
        error.trial,
        batch=error.batch,
        micro_batch_rows=micro_batch_rows,
        fitting_rows=error.rows,
    )
    kind = describe_kind(error.trial)
    return f"a trial ({kind}) can't be run on this machine: {error}; {advice}"
