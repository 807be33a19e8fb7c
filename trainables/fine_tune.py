"""The training loop, as a generator of progress."""

import functools
import gc
import math
import socket
import time
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import torch

from spaces.trial_config import TrialConfig
from trainables.augmentation.bank import AugmentationBank
from trainables.batch_source import BatchSource, TrialSources, to_device
from trainables.checkpoint import CheckpointInfo, restore_training, save_checkpoint
from trainables.data.batching import like_length_batches
from trainables.data.prepared import PreparedData, Rows
from trainables.encoder import encoder_fingerprint, find_encoder, load_tokenizer
from trainables.engine import Engine, open_engine
from trainables.metrics import METRICS
from trainables.model import ClickModel, build_model
from trainables.out_of_memory import explain_out_of_memory
from trainables.task import TASK_METRICS
from trainables.trial_setup import Progress, TrialSetup, Worker
from trainables.tuning import choose_trained

EVALUATION_BATCH = 256
"""Rows of an evaluation batch; without gradients they fit where a few training rows do."""


class TrainingDivergedError(RuntimeError):
    """The loss of a trial is no longer a number."""


def fine_tune(
    trial: TrialConfig,
    setup: TrialSetup,
    worker: Worker,
    *,
    resume_from: Path | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Generator[Progress, None, None]:
    """Train one trial and yield after each epoch; whoever drives it goes on with ``next()``.

    Row order, dropout and augmentation of an epoch depend on the trial's seed and the epoch alone,
    so a trial that was interrupted and resumed gives the losses of one that wasn't.

    Args:
        trial: What to train.
        setup: What all trials of the study share.
        worker: This process among those that train the trial; all of them must iterate.
        resume_from: Checkpoint of this trial to go on from.
        on_step: Called with (finished, all) optimizer steps after each step.

    Yields:
        Metrics on the validation split and a way to save, after each epoch.

    Raises:
        TrainingDivergedError: if the loss becomes NaN or infinite.
        TrialOutOfMemoryError: if there is too little memory for a step, with what would fit.
    """
    torch.set_num_threads(worker.num_threads)
    # The model and the engine of the trial before refer to each other; left to the collector's own
    # time, several trials' weights and optimizer states would pile up.
    gc.collect()
    data, encoder_folder = _find_inputs(setup)
    tokenizer = load_tokenizer(encoder_folder, max_tokens=setup.encoder.max_tokens)
    bank = AugmentationBank(data, trial, tokenizer, encoder_folder)
    model = _build(trial, data, encoder_folder)
    steps_per_epoch = math.ceil(data.num_rows[0] / trial.batch_size)
    total_steps = steps_per_epoch * trial.epochs
    config_hash = setup.config_hash(trial)
    with (
        explain_out_of_memory(trial, setup, data),
        open_engine(model, trial, setup.deepspeed, worker, total_steps=total_steps) as engine,
    ):
        sources = TrialSources(data, bank, engine, setup, encoder_folder)
        first = 1
        if resume_from is not None:
            info = restore_training(resume_from, engine)
            if info.config_hash != config_hash:
                raise RuntimeError(
                    f"{resume_from} holds another trial (hash {info.config_hash}, expected "
                    f"{config_hash}); it can't be gone on from"
                )
            first = info.epoch + 1
        for epoch in range(first, trial.epochs + 1):
            started = time.perf_counter()
            _seed_epoch(trial.seed, epoch, worker.rank)
            loss = train_epoch(
                engine,
                sources.train(epoch),
                trial,
                worker,
                rng=np.random.default_rng([trial.seed, epoch]),
                mean_impressions=data.mean_impressions,
                on_step=_count_from(on_step, (epoch - 1) * steps_per_epoch, total_steps),
            )
            if not math.isfinite(loss):
                raise TrainingDivergedError(
                    f"the training loss became {loss} in epoch {epoch}; "
                    f"learning_rate {trial.learning_rate:g} is likely too high"
                )
            metrics = {
                "train_loss": loss,
                **evaluate(engine, sources.validation(), setup, worker),
            }
            info = CheckpointInfo(
                trial=trial,
                setup=setup,
                num_segments=data.num_segments,
                epoch=epoch,
                metrics=metrics,
                config_hash=config_hash,
            )
            yield Progress(
                epoch=epoch,
                metrics=metrics,
                seconds=time.perf_counter() - started,
                config_hash=config_hash,
                done=epoch == trial.epochs,
                save=functools.partial(save_checkpoint, engine=engine, info=info, rank=worker.rank),
            )


def _find_inputs(setup: TrialSetup) -> tuple[PreparedData, Path]:
    """Open this machine's data and encoder, and make sure that they are the study's."""
    data = PreparedData.open(Path(setup.data_folder))
    encoder_folder = find_encoder(setup.encoder)
    for what, found, expected in (
        ("data", data.fingerprint, setup.data_fingerprint),
        ("encoder", encoder_fingerprint(encoder_folder), setup.encoder_fingerprint),
    ):
        if found != expected:
            raise RuntimeError(
                f"the {what} on {socket.gethostname()} is not the study's (fingerprint {found}, "
                f"expected {expected}); every machine of a study needs the same"
            )
    return data, encoder_folder


def _build(trial: TrialConfig, data: PreparedData, encoder_folder: Path) -> ClickModel:
    model = build_model(
        encoder_folder, trial, num_segments=data.num_segments, base_rate=data.base_rate
    )
    choose_trained(model, trial)
    return model


def _count_from(
    on_step: Callable[[int, int], None] | None, done_before: int, total_steps: int
) -> Callable[[int], None] | None:
    if on_step is None:
        return None
    return lambda step: on_step(done_before + step, total_steps)


def _seed_epoch(seed: int, epoch: int, rank: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0]))


def train_epoch(
    engine: Engine,
    source: BatchSource,
    trial: TrialConfig,
    worker: Worker,
    *,
    rng: np.random.Generator,
    mean_impressions: float,
    on_step: Callable[[int], None] | None = None,
) -> float:
    """Take one optimizer step per batch over all rows.

    Args:
        engine: Holds the model.
        source: Training rows.
        trial: Gives the batch size.
        worker: Takes every ``world_size``-th row of each batch.
        rng: Orders the rows; equal on all workers.
        mean_impressions: A row's usual impressions, which scale the loss.
        on_step: Called with the finished steps of this epoch after each step.

    Returns:
        Mean binomial loss per impression over all workers' rows, in nats; the same on each.
    """
    engine.train()
    rows = source.rows
    batches = like_length_batches(rows.tokens.lengths, trial.batch_size, rng)
    total = torch.zeros((), device=engine.device)
    seen = 0.0
    for step, whole in enumerate(batches, start=1):
        share = whole[worker.rank :: worker.world_size]
        # A last batch of fewer rows than workers leaves some with none: they repeat one, unused.
        indices = share if len(share) else whole[:1]
        impressions = rows.impressions[indices] * (1 if len(share) else 0)
        logits = engine.forward(**source.batch(indices))
        summed = binomial_loss(
            logits,
            clicks=torch.from_numpy(np.minimum(rows.clicks[indices], impressions)).to(
                engine.device
            ),
            impressions=torch.from_numpy(impressions).to(engine.device),
        )
        # DeepSpeed averages over workers, so this is the batch's sum over rows x mean impressions.
        rows_per_worker = len(whole) / worker.world_size
        engine.backward_and_step(summed / (rows_per_worker * mean_impressions))
        total += summed.detach()
        seen += float(impressions.sum())
        if on_step is not None:
            on_step(step)
    sums = torch.stack([total.double(), torch.tensor(seen, device=total.device).double()])
    if worker.world_size > 1:
        engine.add_over_workers(sums)
    return float(sums[0] / sums[1])


def binomial_loss(
    logits: torch.Tensor, *, clicks: torch.Tensor, impressions: torch.Tensor
) -> torch.Tensor:
    """Sum of the negative log-likelihood of the clicks, without the constant binomial coefficient.

    ``sum(impressions * softplus(logit) - clicks * logit)``; for one impression a row this is the
    usual binary cross-entropy.

    Args:
        logits: (batch,) log-odds.
        clicks: (batch,) clicks of each row.
        impressions: (batch,) impressions of each row.

    Returns:
        A scalar in nats, float32.
    """
    logits = logits.float()
    return (impressions * torch.nn.functional.softplus(logits) - clicks * logits).sum()


def evaluate(
    engine: Engine, source: BatchSource, setup: TrialSetup, worker: Worker
) -> dict[str, float]:
    """Score rows with all workers and return the task's metrics, the same on each."""
    engine.eval()
    rows = source.rows
    logits = torch.zeros(len(rows.clicks), device=engine.device)
    batches = _evaluation_batches(rows, worker.world_size)
    with torch.no_grad():
        for position in range(worker.rank, len(batches), worker.world_size):
            indices = batches[position]
            output = engine.forward(**source.batch(indices)).float()
            # A batch repeated for ZeRO's sake (see _evaluation_batches) must not count twice.
            if position < len(batches) - _padding(rows, worker.world_size):
                logits[torch.from_numpy(indices).to(engine.device)] = output
    if worker.world_size > 1:
        engine.add_over_workers(logits)
    probabilities = torch.sigmoid(logits).cpu().numpy().astype(np.float64)
    return score(probabilities, rows, setup)


def score(probabilities: np.ndarray, rows: Rows, setup: TrialSetup) -> dict[str, float]:
    """Compute the task's metrics of predicted probabilities, (n,), on their rows."""
    return {
        name: METRICS[name].function(probabilities, rows.clicks, rows.impressions)
        for name in TASK_METRICS[setup.task.kind]
    }


def _padding(rows: Rows, world_size: int) -> int:
    return -math.ceil(len(rows.clicks) / EVALUATION_BATCH) % world_size


def _evaluation_batches(rows: Rows, world_size: int) -> list[np.ndarray]:
    """Cut rows by length; the last batch repeats until every worker has as many.

    ZeRO 3 gathers weights inside a forward pass, so all workers must run equally many.
    """
    order = np.argsort(rows.tokens.lengths, kind="stable")
    batches = [order[i : i + EVALUATION_BATCH] for i in range(0, len(order), EVALUATION_BATCH)]
    return batches + batches[-1:] * _padding(rows, world_size)


def predict_probabilities(
    model: ClickModel, rows: Rows, *, batch_size: int = EVALUATION_BATCH
) -> np.ndarray:
    """Return the click probabilities, (n,) float64, that a model on the CPU gives to rows."""
    model.eval()
    logits = np.empty(len(rows.clicks), dtype=np.float64)
    order = np.argsort(rows.tokens.lengths, kind="stable")
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            batch = to_device(rows.tokens.batch(indices), torch.device("cpu"))
            logits[indices] = model(**batch).double().numpy()
    return 1 / (1 + np.exp(-logits))
