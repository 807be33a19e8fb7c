"""The training loop, as a generator of progress."""

import contextlib
import dataclasses
import itertools
import math
import socket
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from spaces.trial_config import COMPARING_LOSSES, TrialConfig
from trainables.augmentation.bank import AugmentationBank
from trainables.augmentation.noise import RecordNoise
from trainables.augmentation.variants import EpochTokens
from trainables.batch_source import BatchSource, TrialSources, to_device
from trainables.checkpoint import (
    CheckpointInfo,
    CheckpointWriter,
    checkpoint_folder,
    restore_training,
)
from trainables.data.batching import (
    BatchPlan,
    batches_in_order,
    group_batches,
    like_length_batches,
)
from trainables.data.prepared import PreparedData, Rows
from trainables.encoder import encoder_fingerprint, find_encoder
from trainables.engine import Engine, open_engine
from trainables.metrics import defined_metrics
from trainables.mixup import Mixup
from trainables.model import Model, build_model
from trainables.objective import Objective
from trainables.out_of_memory import explain_out_of_memory
from trainables.scored_rows import ScoredRows
from trainables.task import TASK_METRICS
from trainables.trial_setup import Progress, TrialSetup, Worker, evaluation_tokens
from trainables.tuning import choose_trained, own_trained_weights


class TrainingDivergedError(RuntimeError):
    """The loss of a trial is no longer a number."""


def fine_tune(
    trial: TrialConfig,
    setup: TrialSetup,
    worker: Worker,
    *,
    checkpoints: Path | None = None,
    resume_from: Path | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Generator[Progress, None, None]:
    """Train one trial and yield after each epoch; whoever drives it goes on with ``next()``.

    Row order, dropout, augmentation and mixing of an epoch depend on the trial's seed and the epoch
    alone, so a trial that was interrupted and resumed gives the losses of one that wasn't.

    Args:
        trial: What to train.
        setup: What all trials of the study share.
        worker: This process among those that train the trial; all of them must iterate.
        checkpoints: Folder for this trial's checkpoints, one an epoch, written while the validation
            rows are scored; None: keep none.
        resume_from: Checkpoint of this trial to go on from.
        on_step: Called with (finished, all) optimizer steps after each step.

    Yields:
        Metrics on the validation split and the checkpoint, after each epoch.

    Raises:
        OSError: if a checkpoint can't be written.
        TrainingDivergedError: if the loss becomes NaN or infinite.
        TrialOutOfMemoryError: if there is too little memory for a step, with what would fit.
    """
    torch.set_num_threads(worker.num_threads)
    data, encoder_folder = _find_inputs(setup)
    bank = AugmentationBank(
        data,
        trial,
        encoder_folder,
        max_tokens=setup.encoder.max_tokens,
        config=setup.augmentation,
    )
    steps = _steps_before(trial, data)
    config_hash = setup.config_hash(trial)
    with contextlib.ExitStack() as stack:
        stack.enter_context(explain_out_of_memory(trial, setup, data))
        model = _build(trial, data, encoder_folder, worker)
        engine = stack.enter_context(
            open_engine(model, trial, setup.deepspeed, worker, total_steps=steps[-1])
        )
        del model
        sources = TrialSources(data, bank, engine, setup, encoder_folder)
        first = 1
        if resume_from is not None:
            first = _restore(resume_from, engine, config_hash).epoch + 1
        for epoch in range(first, trial.epochs + 1):
            started = time.perf_counter()
            _seed_epoch(trial.seed, epoch, worker.rank)
            source = dataclasses.replace(
                sources.train(epoch),
                mixup=Mixup.of(trial, epoch),
                noise=RecordNoise.of(
                    trial,
                    data.fields,
                    epoch=epoch,
                    rank=worker.rank,
                    placement=setup.task.placement,
                ),
            )
            loss = train_epoch(
                engine,
                source,
                plan_epoch(trial, epoch, source.tokens, source.rows.groups),
                worker,
                objective=Objective(loss=trial.loss, mean_impressions=data.mean_impressions),
                micro_batch_rows=setup.deepspeed.micro_batch_rows,
                on_step=_count_from(on_step, steps[epoch - 1], steps[-1]),
            )
            # Before the next epoch's variants are looked for: this one's may have to make room.
            del source
            if not math.isfinite(loss):
                raise TrainingDivergedError(
                    f"the training loss became {loss} in epoch {epoch}; "
                    f"learning_rate {trial.learning_rate:g} is likely too high"
                )
            info = CheckpointInfo(
                trial=trial,
                setup=setup,
                num_segments=data.layout.num_segments,
                fields=data.fields.shapes,
                epoch=epoch,
                metrics={"train_loss": loss},
                config_hash=config_hash,
            )
            evaluating = time.perf_counter()
            with _saving(engine, worker, info, checkpoints) as writer:
                scores = evaluate(engine, sources.validation(), setup, worker)
                evaluate_seconds = time.perf_counter() - evaluating
                info = dataclasses.replace(info, metrics={**info.metrics, **scores})
                checkpoint = None if writer is None else writer.finish(info)
            yield Progress(
                epoch=epoch,
                metrics=info.metrics,
                seconds=time.perf_counter() - started,
                evaluate_seconds=evaluate_seconds,
                config_hash=config_hash,
                done=epoch == trial.epochs,
                checkpoint=checkpoint,
            )


def _restore(folder: Path, engine: Engine, config_hash: str) -> CheckpointInfo:
    """Go on from a checkpoint of the same trial."""
    info = restore_training(folder, engine)
    if info.config_hash != config_hash:
        raise RuntimeError(
            f"{folder} holds another trial (hash {info.config_hash}, expected {config_hash}); "
            "it can't be gone on from"
        )
    return info


@contextlib.contextmanager
def _saving(
    engine: Engine, worker: Worker, info: CheckpointInfo, checkpoints: Path | None
) -> Iterator[CheckpointWriter | None]:
    """Begin to write a checkpoint, if there is a folder for it; give it up if an error passes."""
    if checkpoints is None:
        yield None
        return
    writer = CheckpointWriter(checkpoint_folder(checkpoints, info.epoch), engine, rank=worker.rank)
    try:
        yield writer
    except BaseException:
        writer.abandon()
        raise


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


def _build(trial: TrialConfig, data: PreparedData, encoder_folder: Path, worker: Worker) -> Model:
    """Build a trial's model; what it doesn't train is the process's one copy of the encoder."""
    model = build_model(
        encoder_folder,
        trial,
        num_segments=data.layout.num_segments,
        fields=data.fields.shapes,
        base_rate=data.base_rate,
        # With several workers DeepSpeed writes the first one's weights into those of the others.
        share_weights=worker.world_size == 1,
    )
    choose_trained(model, trial)
    own_trained_weights(model)
    return model


def plan_epoch(
    trial: TrialConfig, epoch: int, tokens: EpochTokens, groups: np.ndarray
) -> BatchPlan:
    """Divide an epoch's rows into batches, the same on every worker.

    Args:
        trial: Gives the size of a batch, the seed and the loss: one that compares rows gets the
            rows of a group together.
        epoch: Number of the epoch.
        tokens: The epoch's; a token budget, and a batch of groups, count those of the rows as they
            were prepared, so that the number of steps, and with it the learning rate's schedule, is
            known beforehand.
        groups: (n,) codes: rows of equal code belong together.
    """
    rng = np.random.default_rng([trial.seed, epoch])
    if trial.loss in COMPARING_LOSSES:
        rows = trial.batch_size if trial.batch_tokens is None else None
        lengths = tokens.original.lengths
        return group_batches(lengths, groups, rows, rng, batch_tokens=trial.batch_tokens)
    if trial.batch_tokens is None:
        return like_length_batches(tokens.lengths, trial.batch_size, rng)
    return like_length_batches(tokens.original.lengths, None, rng, batch_tokens=trial.batch_tokens)


def _steps_before(trial: TrialConfig, data: PreparedData) -> list[int]:
    """Count the optimizer steps before each epoch, and in all: epochs + 1 numbers."""
    epochs = range(1, trial.epochs + 1)
    if trial.batch_tokens is None and trial.loss not in COMPARING_LOSSES:
        sizes = [math.ceil(data.num_rows[0] / trial.batch_size) for _ in epochs]
    else:
        rows = data.rows("train")
        tokens = EpochTokens(original=rows.tokens)
        sizes = [len(plan_epoch(trial, epoch, tokens, rows.groups)) for epoch in epochs]
    return [0, *itertools.accumulate(sizes)]


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
    batches: Sequence[np.ndarray],
    worker: Worker,
    *,
    objective: Objective,
    micro_batch_rows: int | None = None,
    on_step: Callable[[int], None] | None = None,
) -> float:
    """Take one optimizer step per batch.

    Args:
        engine: Holds the model.
        source: Training rows.
        batches: Row numbers of each batch; equal on all workers.
        worker: Takes every ``world_size``-th row of each batch.
        objective: What is minimized.
        micro_batch_rows: Most rows of a worker's forward pass; None: its share of a batch.
        on_step: Called with the finished steps of this epoch after each step.

    Returns:
        Mean loss per impression over all workers' rows, or per group, in nats; the same on each.
    """
    objective.check(worker, micro_batch_rows)
    engine.train()
    total = torch.zeros((), device=engine.device)
    seen = 0.0
    for step, whole in enumerate(batches, start=1):
        # DeepSpeed averages over workers, so this is the batch's sum over rows x mean impressions.
        share = len(whole) / worker.world_size
        parts = _worker_parts(whole, worker, micro_batch_rows)
        for number, (indices, counts) in enumerate(parts, start=1):
            if len(parts) > 1:
                engine.accumulate(is_last=number == len(parts))
            mixing = None
            if source.mixup is not None:
                place = {"step": step, "rank": worker.rank, "part": number}
                mixing = source.mixup.draw(len(indices), **place)
            summed, count = objective.summed(engine, source, indices, counts=counts, mixing=mixing)
            engine.backward(summed * objective.scale(share, count))
            total += summed.detach()
            seen += count
        engine.step()
        if on_step is not None:
            on_step(step)
    sums = torch.stack([total.double(), torch.tensor(seen, device=total.device).double()])
    if worker.world_size > 1:
        engine.add_over_workers(sums)
    return float(sums[0] / sums[1])


def _worker_parts(
    whole: np.ndarray, worker: Worker, micro_batch_rows: int | None
) -> list[tuple[np.ndarray, bool]]:
    """Divide a batch over the workers, and this worker's share into what fits at once.

    Returns:
        Row numbers, at least one, and whether they count, for each part. All workers have as many
        parts, because under ZeRO a pass through the model is a conversation between them.
    """
    share = whole[worker.rank :: worker.world_size]
    largest = -(-len(whole) // worker.world_size)
    num_parts = 1 if micro_batch_rows is None else -(-largest // micro_batch_rows)
    # A worker without a row, as where a last batch has fewer than workers, repeats one, unused.
    return [
        (part, True) if len(part) else (whole[:1], False)
        for part in np.array_split(share, num_parts)
    ]


def evaluate(
    engine: Engine, source: BatchSource, setup: TrialSetup, worker: Worker
) -> dict[str, float]:
    """Score rows with all workers and return the task's metrics, the same on each."""
    engine.eval()
    rows = source.rows
    logits = torch.zeros(len(rows.clicks), device=engine.device)
    batches = evaluation_batches(
        rows, engine.device, micro_batch_rows=setup.deepspeed.micro_batch_rows
    )
    # ZeRO 3 gathers weights inside a forward pass, so all workers must run equally many: the last
    # batch repeats, and must not count twice.
    num_batches = len(batches)
    batches += batches[-1:] * (-num_batches % worker.world_size)
    with torch.no_grad():
        for position in range(worker.rank, len(batches), worker.world_size):
            indices = batches[position]
            output = engine.forward(**source.batch(indices)).float()
            if position < num_batches:
                logits[torch.from_numpy(indices).to(engine.device)] = output
    if worker.world_size > 1:
        engine.add_over_workers(logits)
    probabilities = torch.sigmoid(logits).cpu().numpy().astype(np.float64)
    return score(probabilities, rows, setup)


def score(probabilities: np.ndarray, rows: Rows, setup: TrialSetup) -> dict[str, float]:
    """Compute the task's metrics of predicted probabilities, (n,), where the rows define them."""
    scored = ScoredRows.of(probabilities, rows.clicks, rows.impressions, rows.groups)
    return defined_metrics(TASK_METRICS[setup.task.kind], scored)


def evaluation_batches(
    rows: Rows, device: torch.device, *, micro_batch_rows: int | None = None
) -> list[np.ndarray]:
    """Cut rows, in the order of their lengths, into the batches of an evaluation.

    Args:
        rows: What is evaluated.
        device: Where.
        micro_batch_rows: As many rows as fit in training; without gradients some more do.
    """
    return batches_in_order(
        rows.tokens.lengths,
        batch_tokens=evaluation_tokens(device.type),
        most_rows=None if micro_batch_rows is None else 4 * micro_batch_rows,
    )


def predict_probabilities(model: Model, rows: Rows) -> np.ndarray:
    """Return the click probabilities, (n,) float64, that a model on the CPU gives to rows."""
    model.eval()
    cpu = torch.device("cpu")
    logits = np.empty(len(rows.clicks), dtype=np.float64)
    with torch.inference_mode():
        for indices in evaluation_batches(rows, cpu):
            batch = to_device(rows.inputs.batch(indices), cpu)
            logits[indices] = model(**batch).double().numpy()
    return 1 / (1 + np.exp(-logits))
