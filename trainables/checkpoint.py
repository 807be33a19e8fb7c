"""What a checkpoint holds; save, restore.

A checkpoint is a folder::

    trial.json          configuration, setup, epoch, metrics, hash
    model.safetensors   the weights that train: all of them, or adapters and head
    training/           optimizer, schedule and weights as DeepSpeed keeps them, to train on;
                        read only by the study that wrote it, and dropped when the trial ends
"""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from spaces.trial_config import TrialConfig
from trainables.data.fields import FieldShapes
from trainables.encoder import encoder_fingerprint, find_encoder
from trainables.linked_files import link_or_copy
from trainables.out_of_memory import is_out_of_memory
from trainables.trial_setup import CheckpointRecord, TrialSetup

if TYPE_CHECKING:
    from trainables.engine import Engine
    from trainables.model import Model

INFO_FILE = "trial.json"
WEIGHTS_FILE = "model.safetensors"
TRAINING_FOLDER = "training"


class DamagedCheckpointError(RuntimeError):
    """A checkpoint can't be gone on from; an earlier one, or none, has to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointInfo:
    """What a checkpoint says about itself."""

    trial: TrialConfig
    """The configuration that was trained."""
    setup: TrialSetup
    """The study's data, encoder and engine settings."""
    num_segments: int
    """1, or 2 where rows have a segment B; 0 where they have no text."""
    fields: FieldShapes
    """What rows have beside text."""
    epoch: int
    """Finished epochs."""
    metrics: Mapping[str, float]
    """Validation metrics after that epoch."""
    config_hash: str
    """:meth:`TrialSetup.config_hash` of the two."""


def checkpoint_folder(checkpoints: Path, epoch: int) -> Path:
    """Return where a trial keeps the checkpoint of an epoch."""
    return checkpoints / f"epoch-{epoch:04d}"


class CheckpointWriter:
    """Writes a checkpoint while the trial goes on with what doesn't change weights.

    It is there whole or not at all: it gets its name when everything else is written. Every worker
    of a trial makes one and calls its methods.
    """

    def __init__(self, folder: Path, engine: "Engine", *, rank: int) -> None:
        """Begin to write weights and training state.

        Args:
            folder: Replaced if it exists; its parents are made.
            engine: Holds the weights and the optimizer's state; must not step until :meth:`finish`.
            rank: This worker's number.
        """
        self._folder = folder
        self._partial = folder.with_name(folder.name + ".partial")
        self._engine = engine
        self._rank = rank
        if rank == 0:
            shutil.rmtree(self._partial, ignore_errors=True)
            # A trial that was killed between writing and reporting finds its own checkpoint here.
            shutil.rmtree(folder, ignore_errors=True)
            self._partial.mkdir(parents=True)
        engine.barrier()
        try:
            engine.start_saving(self._partial / TRAINING_FOLDER, self._partial / WEIGHTS_FILE)
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Remove what was written: something failed, and nobody else would."""
        with contextlib.suppress(Exception):
            self._engine.finish_saving()
        if self._rank == 0:
            shutil.rmtree(self._partial, ignore_errors=True)

    def finish(self, info: CheckpointInfo) -> CheckpointRecord:
        """Wait for the files, write the description and give the folder its name.

        Raises:
            OSError: if something couldn't be written.
        """
        self._engine.finish_saving()
        if self._rank == 0:
            _write_info(self._partial, info)
        self._engine.barrier()
        if self._rank == 0:
            self._partial.rename(self._folder)
        self._engine.barrier()
        num_bytes = folder_bytes(self._folder)
        return CheckpointRecord(path=str(self._folder), epoch=info.epoch, num_bytes=num_bytes)


def hand_over(source: Path, folder: Path, trial: TrialConfig, config_hash: str) -> CheckpointRecord:
    """Make a trial's checkpoint the first one of another trial, which goes on from it.

    Nothing is written twice: the files are hard links, where both folders are on one file system.
    What is deleted of one checkpoint stays in the other.

    Args:
        source: The checkpoint.
        folder: Of the new one; replaced if it exists, its parents are made.
        trial: The configuration that is trained on; its model has the same weights.
        config_hash: :meth:`TrialSetup.config_hash` of that.

    Raises:
        ValueError: if the source is no checkpoint.
        OSError: if its files are gone, or can't be linked or copied.
    """
    info = read_checkpoint_info(source)
    partial = folder.with_name(folder.name + ".partial")
    for old in (partial, folder):
        shutil.rmtree(old, ignore_errors=True)
    try:
        _link_files(source, partial)
        (partial / INFO_FILE).unlink()
        _write_info(partial, dataclasses.replace(info, trial=trial, config_hash=config_hash))
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return CheckpointRecord(path=str(folder), epoch=info.epoch, num_bytes=folder_bytes(folder))


def _link_files(source: Path, target: Path) -> None:
    for parent, _, names in os.walk(source):
        below = target / Path(parent).relative_to(source)
        below.mkdir(parents=True)
        for name in names:
            link_or_copy(Path(parent) / name, below / name)


def _write_info(folder: Path, info: CheckpointInfo) -> None:
    description = json.dumps(dataclasses.asdict(info), indent=2)
    (folder / INFO_FILE).write_text(description, encoding="utf-8")


def folder_bytes(folder: Path) -> int:
    """Add up the sizes of a folder's files."""
    return sum(
        (Path(parent) / name).stat().st_size
        for parent, _, names in os.walk(folder)
        for name in names
    )


def restore_training(folder: Path, engine: "Engine") -> CheckpointInfo:
    """Load weights, optimizer and schedule into an engine; every worker must call it.

    Raises:
        DamagedCheckpointError: if that can't be read.
    """
    try:
        info = read_checkpoint_info(folder)
        engine.load(folder / TRAINING_FOLDER)
    except Exception as error:  # unpickling damaged bytes may raise anything
        if is_out_of_memory(error):
            raise
        first = str(error).strip().partition("\n")[0]
        raise DamagedCheckpointError(
            f"the checkpoint {folder} is damaged ({type(error).__name__}: {first})"
        ) from error
    return info


def read_checkpoint_info(folder: Path) -> CheckpointInfo:
    """Read what a checkpoint says about itself.

    Raises:
        ValueError: if the folder holds no checkpoint or its description can't be read.
    """
    path = folder / INFO_FILE
    if not path.is_file():
        raise ValueError(f"{folder} holds no checkpoint: {INFO_FILE} is missing")
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
        return TypeAdapter(CheckpointInfo).validate_python(raw)
    except (ValueError, ValidationError) as error:
        raise ValueError(f"{path} can't be read as a checkpoint's description: {error}") from error


def load_model(folder: Path) -> "Model":
    """Rebuild a checkpoint's model on the CPU in float32: adapters merged, no dropout.

    Raises:
        ValueError: if the checkpoint doesn't fit its encoder, or the encoder has changed.
    """
    from safetensors.torch import load_file

    from trainables.lora import merge_adapters
    from trainables.model import ClickModel, build_model
    from trainables.tuning import choose_trained

    info = read_checkpoint_info(folder)
    encoder = find_encoder(info.setup.encoder)
    if encoder_fingerprint(encoder) != info.setup.encoder_fingerprint:
        # Adapters are differences from weights that are not in the checkpoint.
        raise ValueError(
            f"the encoder {info.setup.encoder.name!r} has changed since {folder} was trained on "
            "it; put the old one back"
        )
    model = build_model(encoder, info.trial, num_segments=info.num_segments, fields=info.fields)
    choose_trained(model, info.trial)
    expected = {name for name, weight in model.named_parameters() if weight.requires_grad}
    weights = load_file(folder / WEIGHTS_FILE)
    if set(weights) != expected:
        odd = sorted(set(weights) ^ expected)
        raise ValueError(
            f"{folder / WEIGHTS_FILE} doesn't fit encoder {info.setup.encoder.name!r}: "
            f"{len(odd)} weights differ, first {odd[0]!r}"
        )
    model.load_state_dict(weights, strict=False)
    if isinstance(model, ClickModel):
        merge_adapters(model)
    model.unfreeze()
    return model.eval()
