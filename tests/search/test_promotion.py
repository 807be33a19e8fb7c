import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from search.compression_records import SCORES_FACT
from search.confirmation import choose_winners
from search.evidence import read_evidence
from search.ledger import Ledger
from search.promotion import Promotion, PromotionError, promote
from search.report import render_report
from search.study_config import StudyConfig
from tests.search.finished_study import finished_config, write_trials
from tests.search.trained_study import trained_config, write_log, write_trained_study
from trainables.bundle.manifest import hash_predictor, read_manifest
from trainables.bundle.verify import verify_bundle


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> StudyConfig:
    return trained_config(write_log(tmp_path_factory.mktemp("log")), tiny_encoder)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, config: StudyConfig) -> Path:
    folder = tmp_path_factory.mktemp("searched") / "trained"
    write_trained_study(folder, config)
    return folder


@pytest.fixture(scope="module")
def promotion(searched: Path, config: StudyConfig) -> Promotion:
    return promote(searched, config)


@pytest.fixture
def promoted(searched: Path, promotion: Promotion, tmp_path: Path) -> Path:
    """A promoted study's folder that a test may change."""
    folder = tmp_path / "trained"
    shutil.copytree(searched, folder, symlinks=True)
    return folder


def best_of(promotion: Promotion) -> int:
    assert promotion.best is not None
    return promotion.best


def promote_again(folder: Path, config: StudyConfig) -> tuple[Promotion, list[str]]:
    told: list[str] = []
    return promote(folder, config, tell=told.append), told


def scored(folder: Path) -> Sequence[object]:
    with Ledger.read(folder) as ledger:
        entries: Sequence[object] = ledger.fact(SCORES_FACT)
        return entries


def test_best_is_the_bundle_with_the_best_validation_metric(promotion: Promotion) -> None:
    values = {
        number: report.candidates[report.chosen].metrics["roc_auc"]
        for number, report in promotion.reports.items()
        if report.chosen is not None
    }

    assert sorted(values) == [0, 1]
    assert promotion.best == max(values, key=lambda number: values[number])


def test_best_link_leads_to_a_verified_bundle(searched: Path, promotion: Promotion) -> None:
    link = searched / "best"

    assert link.readlink() == Path(f"bundles/trial-{best_of(promotion):04d}")
    assert verify_bundle(link).num_parity_rows > 0


def test_test_split_is_scored_with_intervals_baseline_and_ceiling(
    searched: Path, promotion: Promotion
) -> None:
    assert promotion.scores is not None
    by_model = promotion.scores.scores["roc_auc"]

    assert set(by_model) == {"bundle", "winner", "baseline", "ceiling"}
    for score in by_model.values():
        assert score.low is not None
        assert score.high is not None
        assert score.low <= score.value <= score.high
    assert promotion.scores.lift["roc_auc"]["baseline"].value == pytest.approx(
        by_model["bundle"].value - by_model["baseline"].value
    )
    assert by_model["ceiling"].value > by_model["bundle"].value
    assert promotion.scores.note == ""
    assert len(scored(searched)) == 1


def test_manifest_and_card_of_the_bundle_state_the_test_scores(
    searched: Path, promotion: Promotion
) -> None:
    assert promotion.scores is not None
    manifest = read_manifest((searched / "best").resolve())
    value = promotion.scores.scores["roc_auc"]["bundle"].value

    assert manifest.test_metrics is not None
    assert manifest.test_metrics["roc_auc"] == pytest.approx(value, abs=1e-6)
    assert "TF-IDF" in (searched / "best" / "README.md").read_text()
    assert manifest.lineage == {
        "study": "trained",
        "trial": promotion.best,
        "seed": 0,
        "epoch": 1,
        "params": {"learning_rate": {0: 1e-3, 1: 2e-4}[best_of(promotion)]},
    }


def test_only_the_chosen_bundle_saw_the_test_split(searched: Path, promotion: Promotion) -> None:
    other = 1 - best_of(promotion)

    assert read_manifest(searched / "bundles" / f"trial-{other:04d}").test_metrics is None


def test_promoting_again_does_nothing_again(
    promoted: Path, config: StudyConfig, promotion: Promotion
) -> None:
    before = (promoted / "best" / "manifest.json").stat().st_mtime_ns

    again, told = promote_again(promoted, config)

    assert again.best == promotion.best
    assert again.scores == promotion.scores
    assert len(told) == 1
    assert told[0].startswith("verified the bundle")
    assert len(scored(promoted)) == 1
    assert (promoted / "best" / "manifest.json").stat().st_mtime_ns == before


def test_kill_before_the_scores_reached_the_bundle_is_mended_without_scoring(
    promoted: Path, config: StudyConfig, promotion: Promotion
) -> None:
    bundle = (promoted / "best").resolve()
    manifest = dataclasses.replace(read_manifest(bundle), test_metrics=None)
    (bundle / "manifest.json").write_text(manifest.to_json())
    (promoted / "best").unlink()

    again, told = promote_again(promoted, config)

    assert "scoring the test split" not in told
    assert again.scores == promotion.scores
    assert read_manifest(promoted / "best").test_metrics is not None


def test_kill_between_the_two_files_that_get_the_scores_is_mended_without_compressing(
    promoted: Path, config: StudyConfig, promotion: Promotion
) -> None:
    bundle = (promoted / "best").resolve()
    manifest = dataclasses.replace(read_manifest(bundle), test_metrics=None)
    (bundle / "manifest.json").write_text(manifest.to_json())
    (bundle / "README.md").write_text("the card with scores, which the manifest doesn't know")

    again, told = promote_again(promoted, config)

    assert [line.split()[0] for line in told] == ["verified"]
    assert again.scores == promotion.scores


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json",
        pytest.param("features.json", marks=pytest.mark.slow),
        pytest.param("manifest.json", marks=pytest.mark.slow),
    ],
)
def test_damaged_bundle_is_made_anew_and_no_graph_scored_twice(
    promoted: Path, config: StudyConfig, promotion: Promotion, name: str
) -> None:
    assert promotion.scores is not None
    bundle = (promoted / "best").resolve()
    sound = (bundle / name).read_bytes()
    (bundle / name).write_bytes(sound[:-9])

    again, told = promote_again(promoted, config)

    assert told[0] == f"compressing trial {best_of(promotion)}"
    assert verify_bundle(promoted / "best").num_parity_rows > 0
    # Latency decides between candidates, so the new bundle may hold another graph than the old one.
    assert again.scores is not None
    assert again.scores.predictor_sha256 == hash_predictor((promoted / "best").resolve())
    is_other = again.scores.predictor_sha256 != promotion.scores.predictor_sha256
    assert len(scored(promoted)) == 1 + is_other


@pytest.mark.slow
def test_kill_inside_a_compression_leaves_nothing_behind(
    promoted: Path, config: StudyConfig, promotion: Promotion
) -> None:
    shutil.rmtree(promoted / "bundles" / f"trial-{1 - best_of(promotion):04d}")
    half_made = promoted / "bundles" / ".trial-0001-x7f"
    half_made.mkdir()

    again, told = promote_again(promoted, config)

    assert told[0] == f"compressing trial {1 - best_of(promotion)}"
    assert not half_made.exists()
    assert again.best == promotion.best
    assert len(scored(promoted)) == 1


def test_limits_that_nothing_meets_leave_no_bundle_and_no_link(
    promoted: Path, config: StudyConfig
) -> None:
    strict = dataclasses.replace(
        config, winners=1, compression=dataclasses.replace(config.compression, max_size_mb=0.001)
    )

    again, told = promote_again(promoted, strict)

    assert again.best is None
    assert again.scores is None
    assert not (promoted / "best").is_symlink()
    # Who uses the earlier bundle must not lose it.
    (earlier,) = (promoted / "bundles").glob("*-earlier")
    verify_bundle(earlier)
    assert any(line.endswith(f"is kept in {earlier.resolve()}") for line in told)
    assert any("MB" in line for line in told)
    assert "TF-IDF" not in render_report(read_evidence(promoted)).partition("<h2>")[0]


def test_one_failed_compression_does_not_stop_the_others(
    promoted: Path, config: StudyConfig, promotion: Promotion
) -> None:
    best = best_of(promotion)
    shutil.rmtree(promoted / "bundles" / f"trial-{best:04d}")
    weights = f"checkpoints/trial-{best:04d}/epoch-0001/model.safetensors"
    (promoted / weights).write_bytes(b"broken")

    again, _ = promote_again(promoted, config)

    assert again.best == 1 - best
    assert list(again.errors) == [best]
    # Another bundle was chosen, so the test split had to be scored for it too.
    assert read_evidence(promoted).num_scored == 2


def test_scores_shown_are_those_of_the_chosen_bundle(promoted: Path, promotion: Promotion) -> None:
    assert promotion.scores is not None
    later = dataclasses.replace(promotion.scores, predictor_sha256="0" * 64, scores={})
    with Ledger.open(promoted) as ledger:
        ledger.set_fact(SCORES_FACT, [promotion.scores.to_dict(), later.to_dict()])

    read = read_evidence(promoted)

    assert read.scores == promotion.scores
    assert read.num_scored == 2


def test_no_compression_that_works_is_an_error(promoted: Path, config: StudyConfig) -> None:
    shutil.rmtree(promoted / "bundles")
    for weights in promoted.glob("checkpoints/*/*/model.safetensors"):
        weights.write_bytes(b"broken")

    with pytest.raises(PromotionError, match="every compression failed; the first: "):
        promote(promoted, config)


def test_changed_table_costs_the_baseline_but_not_the_scores(
    promoted: Path, config: StudyConfig, tmp_path: Path
) -> None:
    with Ledger.open(promoted) as ledger:
        ledger.set_fact(SCORES_FACT, [])
    gone = dataclasses.replace(
        config, data=dataclasses.replace(config.data, path=str(tmp_path / "gone.parquet"))
    )

    again, _ = promote_again(promoted, gone)

    assert again.scores is not None
    assert set(again.scores.scores["roc_auc"]) == {"bundle", "winner"}
    assert again.scores.note.startswith("no baseline: the table can't be read any more")


def test_study_without_an_ended_trial_has_nothing_to_promote(tmp_path: Path) -> None:
    write_trials(tmp_path, finished_config(), num_trials=0)

    with pytest.raises(PromotionError, match="nothing to compress; resume the study"):
        promote(tmp_path, finished_config())


def test_study_that_runs_is_not_promoted(promoted: Path, config: StudyConfig) -> None:
    with Ledger.open(promoted), pytest.raises(ValueError, match="is running already"):
        promote(promoted, config)


def test_winners_are_as_many_as_the_study_asks_for(searched: Path, config: StudyConfig) -> None:
    with Ledger.read(searched) as ledger:
        trials = ledger.trials()

    assert len(choose_winners(trials, config)) == 2
    assert len(choose_winners(trials, dataclasses.replace(config, winners=1))) == 1


def test_trial_whose_checkpoint_is_gone_is_no_winner(promoted: Path, config: StudyConfig) -> None:
    shutil.rmtree(promoted / "checkpoints" / "trial-0000")
    with Ledger.read(promoted) as ledger:
        trials = ledger.trials()

    assert [winner.trial.number for winner in choose_winners(trials, config)] == [1]


def test_promoted_study_can_be_moved(
    promoted: Path, promotion: Promotion, searched: Path, config: StudyConfig
) -> None:
    moved = promoted.rename(promoted.with_name("moved"))

    read = read_evidence(moved)

    assert read.best == promotion.best
    assert read.scores == promotion.scores
    assert [part.name for part in read.data_parts] == ["train", "validation", "test"]
    assert sum(part.num_rows for part in read.data_parts) == 320

    shutil.rmtree((moved / "best").resolve())
    with Ledger.open(moved) as ledger:
        ledger.set_fact(SCORES_FACT, [])
    # Where the checkpoints say that their data is, there is nothing any more.
    home = searched.rename(searched.with_name("gone"))
    try:
        again, _ = promote_again(moved, config)
    finally:
        home.rename(searched)
    assert again.best == promotion.best
    assert again.scores is not None


@pytest.mark.ray
@pytest.mark.slow
def test_winners_are_compressed_as_ray_tasks(
    promoted: Path, config: StudyConfig, promotion: Promotion, ray_local: None
) -> None:
    shutil.rmtree(promoted / "bundles")

    told: list[str] = []

    again = promote(promoted, config, on_ray=True, tell=told.append)

    assert again.best == promotion.best
    assert sorted(again.reports) == [0, 1]
    # As they are made, not at the end.
    first = next(i for i, line in enumerate(told) if "layers at 100%" in line)
    assert any("layers at 100%" in line for line in told[first + 1 :])
    assert verify_bundle(promoted / "best").num_parity_rows > 0
