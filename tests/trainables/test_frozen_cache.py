"""The frozen layers' output is computed once, is never half there, and is left out without room."""

import contextlib
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from spaces.trial_config import TrialConfig
from tests.trainables.data.tables import make_table
from trainables import frozen_cache
from trainables.array_cache import CACHE_FOLDER, ArrayCache
from trainables.augmentation.bank import AugmentationBank
from trainables.augmentation.variants import Variants
from trainables.data.config import DataConfig
from trainables.data.prepared import PreparedData, prepare
from trainables.data.table import load_clicks
from trainables.data.token_rows import TokenRows
from trainables.encoder import EncoderConfig
from trainables.frozen_cache import FrozenCache, FrozenLayers
from trainables.model import ClickModel, build_text_model
from trainables.task import TaskConfig

CPU = torch.device("cpu")
NAME = "below-layer-1-v1.npy"

OPEN = """
import logging, sys, torch
from pathlib import Path
from trainables.array_cache import CACHE_FOLDER, ArrayCache
from trainables.data.prepared import PreparedData
from trainables.frozen_cache import FrozenLayers

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
torch.set_num_threads(1)
print("ready", flush=True)
sys.stdin.readline()
data = PreparedData.open(Path(sys.argv[1]))
layers = FrozenLayers(
    encoder_folder=Path(sys.argv[2]), num_frozen=1, device=torch.device("cpu"),
    files=ArrayCache(data.folder / CACHE_FOLDER, budget_gb=1.0),
)
cache = layers.open_prepared(data)
print("sum", float(cache.states.astype("float64").sum()))
"""


@pytest.fixture
def data(tiny_table: DataConfig, tiny_encoder: Path, tmp_path: Path) -> PreparedData:
    """Prepared data of this test alone."""
    encoder = EncoderConfig(name=str(tiny_encoder), max_tokens=16)
    return prepare(load_clicks(tiny_table, TaskConfig()), encoder, tmp_path)


def layers_of(
    data: PreparedData, encoder: Path, *, num_frozen: int = 1, budget_gb: float = 1.0
) -> FrozenLayers:
    files = ArrayCache(data.folder / CACHE_FOLDER, budget_gb=budget_gb)
    return FrozenLayers(encoder_folder=encoder, num_frozen=num_frozen, device=CPU, files=files)


def open_cache(data: PreparedData, encoder: Path, budget_gb: float = 1.0) -> FrozenCache | None:
    return layers_of(data, encoder, budget_gb=budget_gb).open_prepared(data)


def opened(data: PreparedData, encoder: Path) -> FrozenCache:
    cache = open_cache(data, encoder)
    assert cache is not None
    return cache


def start(data: PreparedData, encoder: Path) -> "subprocess.Popen[str]":
    """Start a process that opens the cache when it is told to."""
    command = [sys.executable, "-c", OPEN, str(data.folder), str(encoder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def files(data: PreparedData) -> set[str]:
    return {path.name for path in (data.folder / CACHE_FOLDER).iterdir()}


@pytest.mark.parametrize("split", ["train", "validation"])
def test_gathered_states_are_what_the_model_computes(
    data: PreparedData, tiny_encoder: Path, np_rng: np.random.Generator, split: str
) -> None:
    cache = open_cache(data, tiny_encoder)
    model = build_text_model(tiny_encoder, TrialConfig(), num_segments=1)
    model.freeze_below(1)
    rows = data.rows(split)  # type: ignore[arg-type]
    indices = np_rng.permutation(len(rows))[:7]

    assert cache is not None
    assert_computed(cache, model, rows.tokens, indices)


def assert_computed(
    cache: FrozenCache, model: ClickModel, tokens: TokenRows, indices: np.ndarray
) -> None:
    """Compare a cache's states of some rows with those that the model computes."""
    batch = {name: torch.from_numpy(a) for name, a in tokens.batch(indices).items()}
    found = torch.from_numpy(cache.gather(tokens, indices))
    inside = batch["attention_mask"].bool()
    # A float16 may round the other way where padding changed the last bit of a float32.
    torch.testing.assert_close(
        found[inside].float(),
        model.frozen_states(**batch)[inside].float(),
        atol=2e-3,
        rtol=2e-3,
    )


@pytest.mark.parametrize("num_texts", [9, 120])
def test_a_text_is_kept_once_however_many_rows_have_it(
    tiny_encoder: Path, tmp_path: Path, num_texts: int
) -> None:
    encoder = EncoderConfig(name=str(tiny_encoder), max_tokens=16)
    data = prepare(make_table(120, num_texts=num_texts), encoder, tmp_path)
    lengths: dict[tuple[str, ...], int] = {}
    for rows in (data.rows("train"), data.rows("validation")):
        lengths.update(zip(rows.texts(), rows.tokens.lengths.tolist(), strict=True))

    cache = opened(data, tiny_encoder)

    # Those of the test split's ten rows aren't needed, unless other rows have them too.
    assert len(lengths) == (9 if num_texts == 9 else 110)
    num_tokens = sum(lengths.values())
    assert cache.states.shape == (num_tokens, 32)
    size = (data.folder / CACHE_FOLDER / NAME).stat().st_size
    assert num_tokens * 32 * 2 < size < num_tokens * 32 * 2 + 200


def test_rows_of_equal_text_have_the_states_that_the_model_computes(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    encoder = EncoderConfig(name=str(tiny_encoder), max_tokens=16)
    data = prepare(make_table(120, num_texts=9), encoder, tmp_path)
    model = build_text_model(tiny_encoder, TrialConfig(), num_segments=2)
    model.freeze_below(1)
    cache = opened(data, tiny_encoder)

    for split in ("train", "validation"):
        tokens = data.rows(split).tokens  # type: ignore[arg-type]
        assert_computed(cache, model, tokens, np.arange(len(tokens)))


def test_the_cache_is_the_same_whoever_computes_it(data: PreparedData, tiny_encoder: Path) -> None:
    path = data.folder / CACHE_FOLDER / NAME
    contents = []
    for _ in range(2):
        open_cache(data, tiny_encoder)
        contents.append(path.read_bytes())
        path.unlink()

    assert contents[0] == contents[1]


@pytest.mark.parametrize("chunk_tokens", [1, 40])
def test_the_cache_is_the_same_in_chunks_of_any_size(
    data: PreparedData, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, chunk_tokens: int
) -> None:
    whole = opened(data, tiny_encoder).states.copy()
    (data.folder / CACHE_FOLDER / NAME).unlink()
    monkeypatch.setattr(frozen_cache, "CHUNK_TOKENS", chunk_tokens)

    in_chunks = opened(data, tiny_encoder).states

    # Rows meet others in a batch, which sums in another order.
    np.testing.assert_allclose(in_chunks, whole, atol=2e-3)


def test_a_file_that_is_there_is_not_computed_again(data: PreparedData, tiny_encoder: Path) -> None:
    open_cache(data, tiny_encoder)
    before = (data.folder / CACHE_FOLDER / NAME).stat()

    open_cache(data, tiny_encoder)

    after = (data.folder / CACHE_FOLDER / NAME).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def let_go(process: "subprocess.Popen[str]") -> None:
    """Wait until a process has imported everything, and tell it to begin."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("\n")
    process.stdin.flush()


def test_two_processes_at_once_compute_it_once(data: PreparedData, tiny_encoder: Path) -> None:
    processes = [start(data, tiny_encoder) for _ in range(2)]
    for process in processes:
        let_go(process)
    outputs = [process.communicate(timeout=120)[0] for process in processes]

    assert [process.returncode for process in processes] == [0, 0]
    sums = [line for output in outputs for line in output.splitlines() if line.startswith("sum")]
    assert len(sums) == 2
    assert len(set(sums)) == 1
    assert sum(output.count(f"made {data.folder}") for output in outputs) == 1
    assert files(data) == {NAME}


def test_who_waits_for_a_builder_that_is_killed_builds(
    data: PreparedData, tiny_encoder: Path
) -> None:
    builder, waiting = (start(data, tiny_encoder) for _ in range(2))
    let_go(builder)
    deadline = time.monotonic() + 60
    while not list((data.folder / CACHE_FOLDER).glob(".below-layer-1-*")):
        assert builder.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    builder.send_signal(signal.SIGSTOP)
    let_go(waiting)
    time.sleep(0.5)
    assert waiting.poll() is None
    assert NAME not in files(data)

    builder.kill()
    builder.communicate(timeout=60)
    output, _ = waiting.communicate(timeout=120)

    assert waiting.returncode == 0
    assert f"made {data.folder}" in output
    assert files(data) == {NAME}


def test_a_damaged_file_is_computed_again(data: PreparedData, tiny_encoder: Path) -> None:
    whole = open_cache(data, tiny_encoder)
    path = data.folder / CACHE_FOLDER / NAME
    path.write_bytes(path.read_bytes()[:-100])

    again = open_cache(data, tiny_encoder)

    assert whole is not None
    assert again is not None
    assert again.states.shape == whole.states.shape
    assert again.states.any(axis=1).all()


def test_a_budget_too_small_is_said_and_leaves_nothing(
    data: PreparedData, tiny_encoder: Path
) -> None:
    with pytest.warns(RuntimeWarning, match=r"GB are used, but encoder\.cache_gb allows 1e-05"):
        assert open_cache(data, tiny_encoder, budget_gb=1e-5) is None

    assert files(data) == set()


def test_all_cuts_share_the_budget(data: PreparedData, tiny_encoder: Path) -> None:
    open_cache(data, tiny_encoder)
    size = (data.folder / CACHE_FOLDER / NAME).stat().st_size

    with pytest.warns(RuntimeWarning, match=r"encoder\.cache_gb"):
        second = layers_of(
            data, tiny_encoder, num_frozen=2, budget_gb=1.5 * size / 1e9
        ).open_prepared(data)

    assert second is None
    assert files(data) == {NAME}


def variants_of(data: PreparedData, encoder: Path, epoch: int) -> Variants:
    trial = TrialConfig(augmentation="word_dropout", augmentation_rate=0.5)
    bank = AugmentationBank(data, trial, encoder, max_tokens=16)
    variants = bank.variants(epoch)
    assert variants is not None
    return variants


def test_states_of_variants_are_what_the_model_computes(
    data: PreparedData, tiny_encoder: Path, np_rng: np.random.Generator
) -> None:
    variants = variants_of(data, tiny_encoder, 1)
    model = build_text_model(tiny_encoder, TrialConfig(), num_segments=1)
    model.freeze_below(1)
    places = np_rng.permutation(len(variants.rows))[:7]
    batch = {name: torch.from_numpy(a) for name, a in variants.tokens.batch(places).items()}

    for _ in range(2):  # Computed, then read.
        cache = layers_of(data, tiny_encoder).open_variants(variants)

        assert cache is not None
        found = torch.from_numpy(cache.gather(variants.tokens, places))
        inside = batch["attention_mask"].bool()
        torch.testing.assert_close(
            found[inside].float(),
            model.frozen_states(**batch)[inside].float(),
            atol=2e-3,
            rtol=2e-3,
        )


def test_the_states_of_other_variants_give_way_and_those_of_prepared_rows_stay(
    data: PreparedData, tiny_encoder: Path
) -> None:
    sets = [variants_of(data, tiny_encoder, epoch) for epoch in range(3)]
    open_cache(data, tiny_encoder)
    layers_of(data, tiny_encoder).open_variants(sets[0])
    size = sum(path.stat().st_size for path in (data.folder / CACHE_FOLDER).iterdir())

    layers = layers_of(data, tiny_encoder, budget_gb=1.1 * size / 1e9)
    found = [layers.open_variants(variants) is not None for variants in sets[1:]]

    assert found == [True, True]
    assert NAME in files(data)
    assert {name for name in files(data) if sets[2].digest in name}
    assert len(files(data)) == 2


@contextlib.contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Let the kernel refuse larger files, as it refuses any on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_refuses_is_said_and_leaves_nothing(
    data: PreparedData, tiny_encoder: Path
) -> None:
    with largest_file(4096), pytest.warns(RuntimeWarning, match="File too large"):
        assert open_cache(data, tiny_encoder) is None

    assert files(data) == set()
    assert open_cache(data, tiny_encoder) is not None
