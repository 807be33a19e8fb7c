"""The whole way from a checkpoint to a bundle, and what its report says."""

import json
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from spaces.trial_config import TrialConfig
from trainables.bundle import Predictor
from trainables.bundle.manifest import read_manifest
from trainables.bundle.scoring import score_bundle
from trainables.bundle.verify import verify_bundle
from trainables.checkpoint import load_model, read_checkpoint_info
from trainables.compression.config import CompressionConfig
from trainables.compression.pipeline import compress
from trainables.compression.report import CompressionReport
from trainables.data.prepared import PreparedData
from trainables.fine_tune import fine_tune, predict_probabilities, score
from trainables.model import ClickModel
from trainables.trial_setup import TrialSetup, Worker

LINEAGE = {"study": "tiny", "trial": 7}
CONFIG = CompressionConfig(
    layer_fractions=(0.5, 1.0), keep_fractions=(0.5, 1.0), max_metric_drop=0.9
)


@pytest.fixture(scope="module")
def checkpoint(tiny_setup: TrialSetup, tmp_path_factory: pytest.TempPathFactory) -> Path:
    trial = TrialConfig(method="full", learning_rate=3e-3, batch_size=16, epochs=2)
    folder = tmp_path_factory.mktemp("trial")
    *_, last = fine_tune(trial, tiny_setup, Worker(), checkpoints=folder)
    assert last.checkpoint is not None
    return Path(last.checkpoint.path)


@pytest.fixture(scope="module")
def report(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> CompressionReport:
    output = tmp_path_factory.mktemp("study") / "bundles" / "trial-0007"
    return compress(
        checkpoint, CONFIG, output, text_columns=("title",), metric="roc_auc", lineage=LINEAGE
    )


def test_every_step_down_is_tried_in_each_precision(report: CompressionReport) -> None:
    tried = [(c.num_layers, c.keep_fraction) for c in report.candidates]
    steps = [[name for name, _ in candidate.steps] for candidate in report.candidates]
    # Which one is chosen depends on how fast they are here.
    assert report.chosen is not None
    assert steps[report.chosen].pop() == "calibrated"

    assert [c.precision for c in report.candidates] == ["fp32", "int8", "int8+int4"] * 3
    assert tried[::3] == [(2, 1.0), (1, 1.0), (1, 0.5)]
    assert steps[1] == ["uncompressed", "exported", "int8"]
    assert steps[4][:2] == ["uncompressed", "1 layer kept"]
    # The last one was made of the one before.
    assert {"1 layer kept", "pruned to 50%"} < set(steps[8])
    assert steps[8][-2:] == ["exported", "int8+int4"]


def test_the_uncompressed_export_scores_what_training_scored(
    report: CompressionReport, checkpoint: Path, tiny_setup: TrialSetup
) -> None:
    rows = PreparedData.open(Path(tiny_setup.data_folder)).rows("validation")
    trained = score(predict_probabilities(load_model(checkpoint), rows), rows, tiny_setup)

    assert report.baseline == pytest.approx(trained, abs=1e-9)
    assert report.candidates[0].metrics == pytest.approx(trained, abs=1e-5)
    assert report.candidates[0].metric_drop == pytest.approx(0, abs=1e-5)


def test_a_report_of_before_there_was_a_confidence_is_read(report: CompressionReport) -> None:
    older = report.to_dict()
    for candidate in older["candidates"]:
        del candidate["metric_drop_at_most"]

    assert CompressionReport.from_dict(older) == report


def test_one_group_of_validation_rows_gives_no_confidence(checkpoint: Path, tmp_path: Path) -> None:
    data = PreparedData.open(Path(read_checkpoint_info(checkpoint).setup.data_folder))
    folder = Path(shutil.copytree(data.folder, tmp_path / data.folder.name))
    groups = np.load(folder / "groups.npy")
    np.save(folder / "groups.npy", np.zeros_like(groups))

    with pytest.raises(ValueError, match=r"compression\.confidence is 0\.9, but all validation"):
        compress(
            checkpoint,
            replace(CONFIG, confidence=0.9),
            tmp_path / "b",
            text_columns=("title",),
            metric="roc_auc",
            lineage={},
            data_folder=folder,
        )


def test_the_surer_it_has_to_be_the_more_may_be_lost(checkpoint: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, layer_fractions=(0.5,), keep_fractions=(1.0,), confidence=0.95)

    report = compress(
        checkpoint, config, tmp_path / "b", text_columns=("title",), metric="log_loss", lineage={}
    )

    for candidate in report.candidates:
        # The lower end, as sure, is as far on the other side.
        assert candidate.metric_drop_at_most > candidate.metric_drop
    assert "worse with 95% confidence" in report.reason


def test_a_metric_that_the_validation_rows_do_not_define_judges_nothing(
    checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"gauc can't be measured on the validation rows"):
        compress(
            checkpoint, CONFIG, tmp_path / "b", text_columns=("title",), metric="gauc", lineage={}
        )


def test_pruned_candidates_have_smaller_matrices_and_files(report: CompressionReport) -> None:
    whole, int8, int4, fewer, _, _, pruned, pruned_int8, _ = report.candidates

    assert whole.shapes == {"heads": [2, 2], "widths": [64, 64]}
    assert fewer.shapes == {"heads": [2], "widths": [64]}
    assert pruned.shapes == {"heads": [1], "widths": [32]}
    assert pruned.size_mb < fewer.size_mb < whole.size_mb
    assert pruned_int8.size_mb < pruned.size_mb
    assert int4.size_mb < int8.size_mb < whole.size_mb


def test_a_report_survives_json(report: CompressionReport) -> None:
    assert CompressionReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_the_bundle_holds_the_chosen_candidate(report: CompressionReport) -> None:
    assert report.chosen is not None
    assert report.bundle is not None
    chosen = report.candidates[report.chosen]
    bundle = Path(report.bundle)

    manifest = verify_bundle(bundle).manifest

    assert manifest.name == "trial-0007"
    assert manifest.lineage == LINEAGE
    assert manifest.compression["keep_fraction"] == chosen.keep_fraction
    assert manifest.compression["precision"] == chosen.precision
    assert [step.name for step in manifest.steps] == [name for name, _ in chosen.steps]
    assert manifest.latency.median_ms == chosen.latency_ms
    assert manifest.test_metrics is None
    assert manifest.num_bytes() / 1e6 == pytest.approx(chosen.size_mb, abs=0.03)
    assert [path.name for path in bundle.parent.iterdir()] == ["trial-0007"]


def test_the_bundle_scores_what_its_candidate_scored(
    report: CompressionReport, tiny_setup: TrialSetup
) -> None:
    assert report.bundle is not None
    assert report.chosen is not None
    rows = PreparedData.open(Path(tiny_setup.data_folder)).rows("validation")

    by_inputs = score_bundle(Path(report.bundle), rows, num_threads=1)
    by_text = Predictor(report.bundle, 1).predict([{"title": text} for (text,) in rows.texts()])

    np.testing.assert_allclose(by_inputs, by_text, atol=1e-9)
    chosen = report.candidates[report.chosen]
    metrics = score(by_inputs, rows, tiny_setup)
    assert metrics == pytest.approx(dict(chosen.steps)["calibrated"], abs=1e-9)
    # Calibration changes how likely a click is said to be, and no ranking.
    assert metrics["roc_auc"] == pytest.approx(chosen.metrics["roc_auc"], abs=1e-9)
    assert metrics["log_loss"] < chosen.metrics["log_loss"]


def test_where_int8_loses_too_much_there_are_variants_that_do_not(
    checkpoint: Path, tmp_path: Path
) -> None:
    """One of the numbers that the head sees is so large that 8 bits leave nothing of the others."""
    spoiled = Path(shutil.copytree(checkpoint, tmp_path / "spoiled"))
    weights = load_file(spoiled / "model.safetensors")
    weights["encoder.encoder.layer.1.output.LayerNorm.bias"][0] = 20_000.0
    weights["head.weight"][:, 0] = 0.0
    save_file(weights, spoiled / "model.safetensors")
    config = CompressionConfig(layer_fractions=(1.0,), keep_fractions=(1.0,))

    report = compress(
        spoiled, config, tmp_path / "b", text_columns=("title",), metric="roc_auc", lineage={}
    )

    found = {candidate.precision: candidate for candidate in report.candidates}
    assert found["int8"].metrics["roc_auc"] == pytest.approx(0.5, abs=0.05)
    assert abs(found["int8+fp32"].metric_drop) <= 0.005
    assert found["int8+fp32"].size_mb < found["fp16"].size_mb < found["fp32"].size_mb
    assert report.bundle is not None
    verify_bundle(report.bundle)


def test_a_smaller_model_that_gives_no_numbers_costs_nothing_but_itself(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pruning a layer to which the others are infinite."""
    from trainables.compression import shrinking

    def overflow(model: ClickModel, _kept: object) -> None:
        with torch.no_grad():
            model.head.weight.fill_(float("nan"))

    monkeypatch.setattr(shrinking, "prune", overflow)
    config = replace(CONFIG, layer_fractions=(1.0,))

    report = compress(
        checkpoint, config, tmp_path / "b", text_columns=("title",), metric="roc_auc", lineage={}
    )

    assert {candidate.keep_fraction for candidate in report.candidates} == {1.0}
    assert report.bundle is not None


def test_where_nothing_is_good_enough_there_is_no_bundle(checkpoint: Path, tmp_path: Path) -> None:
    config = CompressionConfig(layer_fractions=(1.0,), keep_fractions=(1.0,), max_size_mb=0.001)
    threads = torch.get_num_threads()

    report = compress(
        checkpoint,
        config,
        tmp_path / "bundle",
        text_columns=("title",),
        metric="log_loss",
        lineage={},
        num_threads=threads + 1,
    )

    assert (report.chosen, report.bundle) == (None, None)
    assert "none of 3 candidates is within the limits" in report.reason
    assert "beyond max_size_mb 0.001" in report.reason
    assert list(tmp_path.iterdir()) == []
    assert torch.get_num_threads() == threads
    # Lower is better for this metric: a drop is a rise.
    for candidate in report.candidates:
        rise = candidate.metrics["log_loss"] - report.baseline["log_loss"]
        assert candidate.metric_drop == pytest.approx(rise)


def test_mistakes_are_found_before_any_work(checkpoint: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    stale = Path(shutil.copytree(checkpoint, tmp_path / "stale"))
    description = json.loads((stale / "trial.json").read_text())
    description["setup"]["data_fingerprint"] = "f" * 16
    (stale / "trial.json").write_text(json.dumps(description))
    moved = Path(shutil.copytree(checkpoint, tmp_path / "moved"))
    description = json.loads((checkpoint / "trial.json").read_text())
    description["setup"]["encoder_fingerprint"] = "f" * 16
    (moved / "trial.json").write_text(json.dumps(description))

    for folder, output, columns, metric, problem in (
        (tmp_path, "out", ("title",), "roc_auc", "holds no checkpoint"),
        (checkpoint, "taken", ("title",), "roc_auc", "exists and is not a bundle"),
        (checkpoint, "out", ("a", "b"), "roc_auc", r"was trained on 1 text columns, not on 2"),
        (checkpoint, "out", ("title",), "accuracy", "there is no metric 'accuracy'"),
        (stale, "out", ("title",), "roc_auc", "was trained on data ffffffffffffffff"),
        (moved, "out", ("title",), "roc_auc", r"the encoder .* has changed since"),
    ):
        with pytest.raises(ValueError, match=problem):
            compress(
                folder,
                CONFIG,
                tmp_path / output,
                text_columns=columns,
                metric=metric,
                lineage={},
            )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved", "stale", "taken"]


@pytest.mark.slow
def test_a_bundle_predicts_where_only_its_runtime_is_installed(
    report: CompressionReport, tmp_path: Path
) -> None:
    """In an environment with onnxruntime, tokenizers and numpy and nothing else."""
    assert report.bundle is not None
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    requirements = [
        f"{name}=={version}"
        for name, version in read_manifest(Path(report.bundle)).libraries.items()
        if name in ("onnxruntime", "tokenizers", "numpy")
    ]
    subprocess.run([python, "-m", "pip", "install", "-q", *requirements], check=True, timeout=600)
    code = (
        "import sys, numpy as np\n"
        "from trainables.bundle import Predictor\n"
        "predictor = Predictor(sys.argv[1], num_threads=1)\n"
        "parity = predictor.manifest.parity\n"
        "difference = np.abs(predictor.replay() - np.array(parity.probabilities))\n"
        "assert difference.max() < 1e-6, difference\n"
        "missing = {'torch', 'ray', 'transformers', 'pandas', 'onnx', 'pydantic', 'pyarrow'}\n"
        "for name in missing:\n"
        "    try:\n"
        "        __import__(name)\n"
        "    except ImportError:\n"
        "        continue\n"
        "    raise SystemExit(f'{name} is installed')\n"
        "print('same', len(parity.rows))\n"
    )
    root = Path(__file__).resolve().parents[3]

    done = subprocess.run(
        [python, "-c", code, report.bundle],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["same", "16"]


@pytest.mark.slow
def test_the_packaged_encoder_gets_several_times_smaller(
    tiny_setup: TrialSetup, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from trainables.data.config import Columns, DataConfig
    from trainables.data.prepared import prepare
    from trainables.data.simulate import SimulationConfig, simulate
    from trainables.data.table import load_clicks
    from trainables.encoder import EncoderConfig, encoder_fingerprint, find_encoder
    from trainables.task import TaskConfig

    log = simulate(SimulationConfig(num_impressions=20_000, aggregate=True)).log.iloc[:600]
    log.to_parquet(tmp_path / "clicks.parquet")
    columns = Columns(text=("query", "title"), clicks="clicks", impressions="impressions")
    table = load_clicks(
        DataConfig(path=str(tmp_path / "clicks.parquet"), columns=columns), TaskConfig()
    )
    encoder = EncoderConfig(name="minilm-l6")
    data = prepare(table, encoder, tmp_path / "data")
    setup = replace(
        tiny_setup,
        encoder=encoder,
        data_folder=str(data.folder),
        data_fingerprint=data.fingerprint,
        encoder_fingerprint=encoder_fingerprint(find_encoder(encoder)),
    )
    trial = TrialConfig(learning_rate=1e-3, epochs=1)
    record = next(fine_tune(trial, setup, Worker(), checkpoints=tmp_path)).checkpoint
    assert record is not None

    report = compress(
        Path(record.path),
        CompressionConfig(layer_fractions=(1.0,), keep_fractions=(1.0, 0.5), max_metric_drop=0.9),
        tmp_path / "bundle",
        text_columns=columns.text,
        metric="roc_auc",
        lineage={},
    )

    assert report.bundle is not None
    verify_bundle(report.bundle)
    whole, whole_int8, whole_int4, _, half_int8, half_int4 = report.candidates
    assert whole.size_mb / whole_int8.size_mb > 3.5
    assert whole.size_mb / whole_int4.size_mb > 4.5
    assert whole.size_mb / half_int8.size_mb > 4.5
    assert whole.size_mb / half_int4.size_mb > 6.5


@pytest.mark.slow
def test_warnings_of_the_exporter_stay_out_of_the_terminal(
    checkpoint: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from trainables.compression.config import CompressionConfig\n"
        "from trainables.compression.pipeline import compress\n"
        "settings = CompressionConfig(layer_fractions=(1.0,), keep_fractions=(1.0,))\n"
        "compress(Path(sys.argv[1]), settings, "
        "Path(sys.argv[2]), text_columns=('title',), metric='roc_auc', lineage={})\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(checkpoint), str(tmp_path / "bundle")],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )

    assert (done.stdout, done.stderr) == ("", "")
