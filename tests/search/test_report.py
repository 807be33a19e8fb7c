import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from search.budgets import REACHED_FACT
from search.evidence import StudyEvidence, read_evidence
from search.final_scores import Score
from search.ledger import Ledger
from search.report import render_report, write_report
from search.study_config import parse_study
from search.summary import summarize
from tests.search.finished_study import (
    STUDY,
    final_scores,
    finished_config,
    write_promotion,
    write_trials,
)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> StudyEvidence:
    folder = tmp_path_factory.mktemp("finished")
    write_trials(folder, finished_config())
    best, other = [row.trial.number for row in read_evidence(folder).ranking][:2]
    write_promotion(folder, best=best, other=other)
    read = read_evidence(folder)
    # The bundle itself isn't there, so that its link can't be followed.
    return dataclasses.replace(read, best=best, scores=final_scores(best))


@pytest.fixture(scope="module")
def page(evidence: StudyEvidence) -> str:
    return render_report(evidence)


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [
            (name, value or "") for name, value in attrs if name in ("src", "href", "xlink:href")
        ]


def test_report_needs_no_other_file_and_no_script(page: str) -> None:
    links = Links()
    links.feed(page)

    assert all(value.startswith("#") for _, value in links.found)
    assert not {"script", "link", "img", "iframe", "object"} & set(links.tags)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_report_begins_with_what_was_found(page: str, evidence: StudyEvidence) -> None:
    leader = evidence.ranking[0]
    assert leader.best is not None

    assert page.index("12 of 12 trials") < page.index("<h2>")
    assert f"Trial {leader.trial.number} leads" in page
    assert f"{leader.best.metrics['roc_auc']:.4f}" in page
    assert "0.0519 above TF-IDF + logistic regression" in page


def test_report_has_a_chart_for_each_varied_hyperparameter(page: str) -> None:
    for name in ("learning_rate", "batch_size", "augmentation", "augmentation_rate", "lora_rank"):
        assert f'aria-label="ROC-AUC by {name}"' in page
    assert 'aria-label="ROC-AUC by method"' not in page
    for name in ("learning curves", "compression: quality over latency", "test scores"):
        assert f'aria-label="{name}"' in page


def test_ids_of_the_charts_do_not_meet(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)

    assert len(ids) == len(set(ids))


def test_every_reference_inside_a_chart_has_its_target(page: str) -> None:
    ids = set(re.findall(r'\bid="([^"]+)"', page))

    assert set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', page)) <= ids


def test_report_escapes_what_trials_wrote(page: str) -> None:
    assert "&lt;b&gt;out of memory&lt;/b&gt;" in page
    assert "<b>out of memory" not in page


def test_report_keeps_the_machines_folders_to_itself(page: str, evidence: StudyEvidence) -> None:
    assert "clicks.parquet" in page
    assert "/somewhere/private" not in page
    assert str(evidence.folder) not in page


def test_report_is_the_same_twice(evidence: StudyEvidence) -> None:
    first, second = (
        re.sub(r"ClickTune report, [^<]+", "", render_report(evidence)) for _ in range(2)
    )

    assert first == second


def test_report_of_a_study_that_has_just_begun(tmp_path: Path) -> None:
    write_trials(tmp_path, finished_config(), num_trials=0)

    path = write_report(read_evidence(tmp_path))

    assert "No trial has begun." in path.read_text()


def test_report_of_an_interrupted_study(tmp_path: Path) -> None:
    write_trials(tmp_path, finished_config(), num_trials=3)

    page = render_report(read_evidence(tmp_path))

    assert "3 of 12 trials" in page
    assert "<h2>Compression</h2>" not in page
    assert "<h2>Test split</h2>" not in page


def test_report_is_replaced_as_a_whole(evidence: StudyEvidence, tmp_path: Path) -> None:
    moved = dataclasses.replace(evidence, folder=tmp_path)
    (tmp_path / "report.html").write_text("old")

    write_report(moved)

    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert "old" not in (tmp_path / "report.html").read_text()[:3]


def test_leaderboard_puts_failed_trials_last(evidence: StudyEvidence) -> None:
    ranks = [row.rank for row in evidence.ranking]

    assert ranks == [*range(1, 12), None]
    assert evidence.ranking[-1].trial.state == "failed"


def test_summary_says_below_where_the_bundle_loses(evidence: StudyEvidence) -> None:
    assert evidence.scores is not None
    lift = Score(value=-0.02, low=-0.03, high=-0.01)
    scores = dataclasses.replace(evidence.scores, lift={"roc_auc": {"baseline": lift}})

    text = " ".join(summarize(dataclasses.replace(evidence, scores=scores)))

    assert "0.0200 below TF-IDF" in text


def test_summary_admits_a_second_look_at_the_test_split(evidence: StudyEvidence) -> None:
    text = " ".join(summarize(dataclasses.replace(evidence, num_scored=2)))

    assert "scored for 2 bundles" in text


def test_report_says_what_ended_the_search(tmp_path: Path) -> None:
    config = parse_study(STUDY, ["search.patience=4"])
    write_trials(tmp_path, config)
    reason = "4 trials in a row brought no new best, and search.patience is 4"
    with Ledger.open(tmp_path) as ledger:
        ledger.set_fact(REACHED_FACT, {"name": "patience", "limit": 4, "reason": reason})

    assert f"The study ended early: {reason}." in render_report(read_evidence(tmp_path))


def test_metric_that_is_minimized_ranks_the_smallest_first(tmp_path: Path) -> None:
    write_trials(tmp_path, parse_study(STUDY, ["search.metric=log_loss"]))

    read = read_evidence(tmp_path)

    values = [row.best.metrics["log_loss"] for row in read.ranking if row.rank and row.best]
    assert values == sorted(values)
    assert "log_loss" in render_report(read)
