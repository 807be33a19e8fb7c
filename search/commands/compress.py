"""clicktune compress: a study's winners, or one checkpoint, to a bundle."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from search.commands.preflight import FailureError, MistakeError, preflight

if TYPE_CHECKING:
    from search.study_config import StudyConfig

NO_BUNDLE = (
    "no candidate keeps within the limits, so there is no bundle; above it is said of each trial "
    "which limits its nearest one misses, and --set compression.KEY=... allows more"
)


@click.command()
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key, like compression.max_latency_ms=2.0 or winners=5.",
)
@click.option("--address", help="Compress on this Ray cluster (HOST:PORT or auto).")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the bundle of a checkpoint goes; default: bundle, beside it.",
)
@click.option(
    "--with-checkpoint",
    "whole",
    type=click.Path(path_type=Path),
    metavar="DIRECTORY",
    help="Also write the uncompressed model there, as a Hugging Face folder to train on.",
)
def compress(
    source: Path,
    overrides: tuple[str, ...],
    address: str | None,
    out: Path | None,
    whole: Path | None,
) -> None:
    """Compress SOURCE: a study's folder, or one checkpoint of a study or of `clicktune trial`.

    A study's winners become bundles and the best one is scored on the test split, once. A
    checkpoint only becomes a bundle. Exit code 1 if no candidate keeps within the limits.
    """
    if (source / "trial.json").is_file():
        if address is not None:
            raise MistakeError("--address is for a study's folder; one checkpoint is done here")
        _check_new(whole, source)
        _compress_checkpoint(source, overrides, out or source.parent / "bundle")
        _write_whole(source, whole)
        return
    if out is not None:
        raise MistakeError(f"--out is for one checkpoint; the bundles of {source} stay in it")
    _check_new(whole)
    _write_whole(_compress_study(source, overrides, address), whole)


def _check_new(whole: Path | None, checkpoint: Path | None = None) -> None:
    """Refuse before the work what could not be written after it."""
    from trainables.hugging_face import check_encoder, check_new

    if whole is not None:
        with preflight():
            check_new(whole)
            if checkpoint is not None:
                check_encoder(checkpoint)


def _write_whole(checkpoint: Path, whole: Path | None) -> None:
    from trainables.hugging_face import export_hugging_face

    if whole is None:
        return
    with preflight():
        export_hugging_face(checkpoint, whole)
    click.echo(f"uncompressed, for Hugging Face's libraries: {whole}")


def _compress_study(folder: Path, overrides: tuple[str, ...], address: str | None) -> Path:
    """Compress a study's winners, and return the checkpoint that its best bundle is made of."""
    from search.commands.present import present, promote_or_fail
    from search.tables import open_console, say

    with preflight():
        config = _searched_study(folder, overrides)
    console = open_console()
    promotion = promote_or_fail(
        folder, config, address=address, on_ray=address is not None, tell=lambda t: say(console, t)
    )
    _keep_settings(folder, config)
    present(folder, console)
    if promotion.checkpoint is None:
        raise FailureError(NO_BUNDLE)
    return promotion.checkpoint


def _searched_study(folder: Path, overrides: tuple[str, ...]) -> "StudyConfig":
    """Read the study that was searched, with overrides that leave it the same study."""
    from search.ledger import Ledger
    from search.study_changes import find_changes
    from search.study_config import parse_study

    if not Ledger.exists(folder):
        raise ValueError(
            f"{folder} is neither a study's folder (no ledger.db) nor a checkpoint (no trial.json)"
        )
    # Opened to write, so that a study that still runs is refused here.
    with Ledger.open(folder) as ledger:
        text: str = ledger.fact("config")
    source = f"the study in {folder}"
    config = parse_study(text, overrides, source=source)
    if changes := find_changes(parse_study(text, source=source), config):
        raise ValueError(
            f"{folder} was searched with other settings: {'; '.join(changes)}. Here only "
            "compression and winners may change"
        )
    return config


def _keep_settings(folder: Path, config: "StudyConfig") -> None:
    """Note how a study was compressed last, by which its report and later commands go."""
    from search.ledger import Ledger
    from search.study_config import dump_study, parse_study, write_study

    with Ledger.open(folder) as ledger:
        stored = parse_study(ledger.fact("config"), source=f"the study in {folder}")
        kept = dataclasses.replace(stored, compression=config.compression, winners=config.winners)
        if kept != stored:
            ledger.set_fact("config", dump_study(kept))
            write_study(folder, kept)


def _compress_checkpoint(checkpoint: Path, overrides: tuple[str, ...], output: Path) -> None:
    from search.study_config import STUDY_FILE, load_study
    from search.tables import open_console, say
    from trainables.checkpoint import read_checkpoint_info
    from trainables.compression.pipeline import compress as compress_checkpoint
    from trainables.data.store import DATA_FOLDER

    with preflight():
        folder = _study_folder(checkpoint)
        config = load_study(folder / STUDY_FILE, overrides)
        info = read_checkpoint_info(checkpoint)
    # Beside the checkpoint also where both were moved since the training.
    data = folder / DATA_FOLDER / info.setup.data_fingerprint
    console = open_console()
    report = compress_checkpoint(
        checkpoint,
        config.compression,
        output,
        text_columns=config.data.columns.text,
        metric=config.search.metric,
        lineage={"study": config.name, "epoch": info.epoch},
        num_threads=len(os.sched_getaffinity(0)),
        data_folder=data if data.is_dir() else None,
        tell=lambda line: say(console, line),
    )
    metric = report.metric
    say(console, f"uncompressed: {metric} {report.baseline[metric]:.4f}")
    for place, candidate in enumerate(report.candidates):
        mark = " (bundle)" if place == report.chosen else ""
        say(
            console,
            f"{candidate.name}: {metric} {candidate.metrics[metric]:.4f}, "
            f"{candidate.latency_ms:.2f} ms, {candidate.size_mb:.1f} MB{mark}",
        )
    if report.bundle is None:
        raise FailureError(report.reason)
    say(console, f"bundle: {output}")


def _study_folder(checkpoint: Path) -> Path:
    """Find the folder of the study that a checkpoint belongs to, a few levels up."""
    from search.study_config import STUDY_FILE

    for folder in list(checkpoint.resolve().parents)[:3]:
        if (folder / STUDY_FILE).is_file():
            return folder
    raise ValueError(
        f"{checkpoint} has no {STUDY_FILE} beside or above it, which names the text columns; leave "
        "a checkpoint in its study's folder, or in the one that clicktune trial --out made"
    )
