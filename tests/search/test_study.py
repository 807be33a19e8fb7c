import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import torch
from rich.console import Console

from search import Study
from search.events import StudyEvent
from search.evidence import read_evidence
from search.ledger import Ledger
from search.report import write_report
from search.results import StudyResult, read_result
from search.study_config import dump_study, parse_study
from search.tables import print_evidence
from search.trial_record import TrialRecord
from spaces.trial_config import TrialConfig
from tests.fakes import FakeTrial, read_trained
from trainables.data.store import STORE

REPOSITORY = Path(__file__).parents[2]
STUDY = """
name: tiny
data: {{path: {data}, columns: {{text: [title], label: clicked}}}}
encoder: {{max_tokens: 16}}
space:
  learning_rate: {{log_uniform: [1.0e-5, 1.0e-3]}}
  dropout: {{choice: [0.1, 0.2]}}
search: {{algorithm: random, scheduler: asha, trials: 6, epochs: 3, confirm_trials: 0}}
winners: 2
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = random.Random(0)
    rows = [f"{rng.choice('abcdef')} {rng.choice('ghijkl')} {n},{n % 2}" for n in range(200)]
    path = tmp_path / "clicks.csv"
    path.write_text("title,clicked\n" + "\n".join(rows) + "\n")
    return path


def study(data: Path, *overrides: str) -> Study:
    config = parse_study(STUDY.format(data=data), overrides)
    return Study(config, out=data.parent / "runs", trainable=FakeTrial)


def points(trials: tuple[TrialRecord, ...]) -> list[tuple[int, object, str]]:
    return [(trial.number, trial.config, trial.config_hash) for trial in trials]


Stop = tuple[int, set[tuple[int, int]]]
"""How many epochs had been trained when a study was stopped, and which reports were stored."""


def stop_of(folder: Path) -> Stop:
    trials = read_result(folder).trials
    stored = {(trial.number, report.epoch) for trial in trials for report in trial.reports}
    return len(read_trained(folder)), stored


def assert_only_unreported_epochs_were_trained_again(
    folder: Path, result: StudyResult, stops: list[Stop]
) -> None:
    trained = [(number, epoch) for number, epoch, _pid in read_trained(folder)]
    assert set(trained) == {(t.number, report.epoch) for t in result.trials for report in t.reports}
    for num_trained, stored in stops:
        assert not stored & set(trained[num_trained:])
    # At most the epochs that the two places were at when each stop came.
    assert sum(count - 1 for count in Counter(trained).values()) <= 2 * len(stops)


@pytest.mark.ray
def test_study_runs_to_its_end(data: Path, ray_local: None) -> None:
    events: list[StudyEvent] = []
    tiny = study(data)

    result = tiny.run(on_event=events.append)

    assert result.status == "completed"
    assert [trial.number for trial in result.trials] == list(range(6))
    assert {trial.state for trial in result.trials} <= {"completed", "stopped"}
    assert len(result.winners) == 2
    for winner in result.winners:
        assert winner.checkpoint is not None
        assert winner.checkpoint.path.is_dir()
    trained = read_trained(tiny.folder)
    assert len(trained) == len({(number, epoch) for number, epoch, _pid in trained})
    # Two places, and a place's process takes trial after trial.
    assert len({pid for _number, _epoch, pid in trained}) <= 3
    kinds = Counter(event.kind for event in events)
    assert kinds["started"] == 6
    assert kinds["completed"] + kinds["stopped"] == 6
    assert kinds["reported"] == len(trained)
    assert parse_study((tiny.folder / "study.yaml").read_text()) == tiny.config
    facts = tiny.plan().data
    assert facts is not None
    assert sum(facts.num_rows) == 200

    with pytest.raises(ValueError, match="holds this study already, 6 of 6 trials have ended"):
        tiny.run()
    store = tiny.folder.parent / STORE
    prepared, mine = store / facts.fingerprint, tiny.folder / "data" / facts.fingerprint
    assert (mine / "ids.npy").samefile(prepared / "ids.npy")
    again = tiny.run(resume=True)
    assert again.trials == result.trials
    shutil.rmtree(store)
    longer = study(data, "search.trials=7").run(resume=True)
    assert (mine / "ids.npy").samefile(prepared / "ids.npy")
    assert points(longer.trials)[:6] == points(result.trials)
    assert len(longer.trials) == 7


@pytest.mark.ray
def test_trials_that_die_raise_or_diverge_cost_only_themselves(data: Path, ray_local: None) -> None:
    grid = ["search.algorithm=grid", "search.scheduler=none"]
    space = "space={dropout: {choice: [0.1, 0.5, 0.6, 0.7]}}"

    result = study(data, *grid, space).run()

    assert result.status == "completed"
    healthy, dying, raising, diverging = result.trials
    assert healthy.state == "completed"
    assert (dying.state, dying.failures, dying.starts, dying.last_epoch) == ("completed", 1, 2, 3)
    assert (raising.state, raising.failures) == ("failed", 2)
    assert str(raising.error).rstrip().endswith("RuntimeError: this trial never works")
    assert "\x1b" not in str(raising.error)
    assert (diverging.state, diverging.failures) == ("failed", 1)
    assert str(diverging.error).startswith("diverged")
    trained = [(number, epoch) for number, epoch, _pid in read_trained(result.folder)]
    assert [epoch for number, epoch in trained if number == 1] == [1, 2, 3]


@pytest.mark.ray
def test_ctrl_c_ends_cleanly_and_resumes(data: Path, ray_local: None) -> None:
    def interrupt(event: StudyEvent) -> None:
        if event.kind == "reported" and event.trial is not None and event.trial.number == 1:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    tiny = study(data)

    first = tiny.run(on_event=interrupt)
    stop = stop_of(tiny.folder)
    second = tiny.run(resume=True)

    assert signal.getsignal(signal.SIGINT) is before
    assert first.status == "interrupted"
    assert first.trials[-1].number < 5
    assert second.status == "completed"
    assert points(second.trials)[: len(first.trials)] == points(first.trials)
    assert_only_unreported_epochs_were_trained_again(tiny.folder, second, [stop])


@pytest.mark.ray
@pytest.mark.slow
def test_study_in_which_nothing_works_is_given_up(data: Path, ray_local: None) -> None:
    space = "space={dropout: 0.6, batch_size: {int: [1, 50]}}"

    result = study(data, space, "search.max_failures=0").run()

    assert result.status == "failed"
    assert len(result.trials) < 6
    assert result.best is None


def test_plan_says_what_will_run(data: Path) -> None:
    plan = study(data, "resources.cpus_per_worker=1").plan()

    assert plan.num_points is None
    assert plan.num_trials == 6
    assert plan.data is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("encoder.name=/nowhere", "encoder folder '/nowhere' does not exist"),
        (
            "space.tuned_layers={int: [1, 9]}",
            r"space\.tuned_layers may be 9, but encoder 'minilm-l6' has 6 layers",
        ),
        ("resources.workers=500", "one trial needs 500 x 1 CPUs"),
        ("data.path=gone.csv", "gone.csv"),
        ("data.columns.text=[headline]", "headline"),
        (
            "search.metric=gauc",
            r"the validation split of .*clicks\.csv can't be scored: gauc is undefined.*it needs a "
            r"group of several rows.*optimize another metric",
        ),
    ],
)
def test_mistake_is_found_before_anything_starts(data: Path, override: str, message: str) -> None:
    extra = ["space.batch_size=512"] if "workers" in override else []
    wrong = study(data, *extra, override)

    with pytest.raises(ValueError, match=message):
        wrong.run()

    assert not Ledger.exists(wrong.folder)


def test_metric_by_group_may_be_optimized_where_groups_define_it(data: Path) -> None:
    lines = data.read_text().splitlines()[1:]
    rows = [f"{line},query {number // 4}" for number, line in enumerate(lines)]
    data.write_text("title,clicked,query\n" + "\n".join(rows) + "\n")
    grouped = study(data, "search.metric=gauc", "data.columns.group=query", "data.split.by=group")

    assert len(grouped.check()) == 200


def test_a_precision_that_the_machine_lacks_leaves_no_study_behind(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    wrong = study(data, "deepspeed.precision=bf16")

    with pytest.raises(ValueError, match="this machine has no bf16 arithmetic"):
        wrong.run()

    assert not Ledger.exists(wrong.folder)


def test_address_of_no_cluster_is_refused(data: Path) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT or auto"):
        study(data).run(address="somewhere")


def test_cluster_that_cannot_be_joined_leaves_no_study_behind(data: Path) -> None:
    tiny = study(data)

    # Beside this module's other tests the process may have a Ray already, which is refused too.
    with pytest.raises((ConnectionError, ValueError), match=r"nothing answers|to a Ray already"):
        tiny.run(address="127.0.0.1:1")

    assert not Ledger.exists(tiny.folder)


def facts_of(tiny: Study) -> dict[str, object]:
    """Prepare a study's data and return what its ledger notes of the whole study."""
    from trainables.data.store import prepare_shared
    from trainables.data.table import load_clicks
    from trainables.encoder import encoder_fingerprint, find_encoder

    table = load_clicks(tiny.config.data, tiny.config.task)
    prepared = prepare_shared(table, tiny.config.encoder, tiny.folder)
    return {
        "config": dump_study(tiny.config),
        "status": "running",
        "higher_is_better": True,
        "table_fingerprint": table.fingerprint,
        "encoder_fingerprint": encoder_fingerprint(find_encoder(tiny.config.encoder)),
        "data": {"fingerprint": prepared.fingerprint, "num_rows": [1, 1, 1], "base_rate": 0.5},
    }


@pytest.fixture
def begun(data: Path) -> Study:
    """A study that was killed before its first trial."""
    tiny = study(data)
    Ledger.create(tiny.folder, facts_of(tiny)).close()
    return tiny


def test_folder_of_another_study_is_refused(begun: Study, data: Path) -> None:
    other = study(data, "search.seed=1", "space.dropout=0.3")

    with pytest.raises(ValueError, match=r"holds another study: space\.dropout is") as e:
        other.run(resume=True)

    assert "search.seed is 0 there and 1 here" in str(e.value)
    assert "--out" in str(e.value)


def test_space_in_another_order_is_another_study(begun: Study, data: Path) -> None:
    space = "space={dropout: {choice: [0.1, 0.2]}, learning_rate: {log_uniform: [1.0e-5, 1.0e-3]}}"

    with pytest.raises(ValueError, match="space lists its parameters in another order"):
        study(data, space).run(resume=True)


def test_study_is_not_restarted_without_being_asked_to_resume(begun: Study) -> None:
    with pytest.raises(ValueError, match=r"0 of 6 trials have ended; go on with --resume"):
        begun.run()


def test_data_that_changed_since_the_study_began_is_refused(begun: Study, data: Path) -> None:
    data.write_text(data.read_text() + "one more,1\n")

    with pytest.raises(ValueError, match=r"clicks\.csv has changed since the study in .* began"):
        begun.run(resume=True)

    assert len(list((begun.folder / "data").iterdir())) == 1


def test_truth_that_does_not_fit_is_found_before_anything_starts(data: Path) -> None:
    truth = data.with_name("truth.csv")
    truth.write_text("row,probability\n0,0.5\n")
    wrong = study(data, f"data.truth={truth}")

    with pytest.raises(ValueError, match="must come from the same simulation"):
        wrong.run()


def test_study_that_was_killed_after_its_last_trial_is_completed_by_a_resume(
    begun: Study, data: Path
) -> None:
    with Ledger.open(begun.folder) as ledger:
        ledger.set_fact("status", "interrupted")
        ledger.add_trial(0, {}, TrialConfig(), "hash")
        ledger.end_trial(0, "completed")

    result = study(data, "search.trials=1", "winners=1").run(resume=True)

    assert result.status == "completed"
    assert result.config.winners == 1
    assert parse_study((begun.folder / "study.yaml").read_text()) == result.config


PBT = ["search.scheduler=pbt", "search.trials=4", "winners=1"]


@pytest.mark.ray
def test_population_trains_in_fewer_places_than_it_has_members(data: Path, ray_local: None) -> None:
    events: list[StudyEvent] = []
    tiny = study(data, *PBT)

    result = tiny.run(on_event=events.append)

    assert result.status == "completed"
    # One of four is replaced after each of two epochs.
    states = Counter(trial.state for trial in result.trials)
    assert states == {"completed": 4, "stopped": 2}
    trained = [(number, epoch) for number, epoch, _pid in read_trained(tiny.folder)]
    assert len(trained) == len(set(trained)) == 12
    assert set(trained) == {(t.number, r.epoch) for t in result.trials for r in t.reports}
    kinds = Counter(event.kind for event in events)
    assert kinds["paused"] == 8
    with pytest.raises(ValueError, match=r"4 of 4 trials have ended"):
        tiny.run()
    assert tiny.run(resume=True).trials == result.trials
    with pytest.raises(
        ValueError, match=r"search\.trials, the population of pbt, is 4 there and 5"
    ):
        study(data, *PBT, "search.trials=5").run(resume=True)

    console = Console(file=io.StringIO(), width=200)
    evidence = read_evidence(tiny.folder)
    print_evidence(console, evidence)
    page = write_report(evidence).read_text()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for trial in result.trials:
        if trial.continues is not None:
            text = f"continues trial {trial.continues.number} from epoch {trial.continues.epoch}"
            assert text in shown
            assert text in page
    assert "4 of 4 trials (random, scheduler pbt)" in shown
    assert "2 of all these continued a better one" in shown


@pytest.mark.ray
def test_population_that_a_budget_ended_is_resumed_with_another(
    data: Path, ray_local: None
) -> None:
    tiny = study(data, *PBT, "search.max_trial_hours=0.000001")

    result = tiny.run()

    assert {trial.state for trial in result.trials} == {"stopped"}
    assert result.winners
    assert tiny.run(resume=True).trials == result.trials


def test_finished_study_of_a_small_space_is_over(data: Path) -> None:
    small = study(data, "space={dropout: {choice: [0.1, 0.2]}}", "winners=1")
    events: list[StudyEvent] = []
    with Ledger.create(small.folder, facts_of(small)) as ledger:
        for number in range(2):
            ledger.add_trial(number, {}, TrialConfig(), "hash")
            ledger.end_trial(number, "completed")

    with pytest.raises(ValueError, match=r"2 of 2 trials have ended; go on with --resume"):
        small.run()
    result = small.run(resume=True, on_event=events.append)

    assert result.status == "completed"
    assert [event.kind for event in events] == ["note"]


def test_rows_that_were_left_out_are_listed_in_the_studys_folder(data: Path) -> None:
    lines = data.read_text().splitlines()
    data.write_text("\n".join([*lines, "no label,"]))
    small = study(
        data, "space={dropout: {choice: [0.1, 0.2]}}", "winners=1", "data.on_bad_row=skip"
    )
    events: list[StudyEvent] = []
    with Ledger.create(small.folder, facts_of(small)) as ledger:
        for number in range(2):
            ledger.add_trial(number, {}, TrialConfig(), "hash")
            ledger.end_trial(number, "completed")

    small.run(resume=True, on_event=events.append)

    assert [event.kind for event in events] == ["note", "warning"]
    assert events[1].message.startswith("1 of 201 rows were left out")
    assert (small.folder / "bad-rows.csv").read_text().count("\n") == 2


def test_running_study_is_not_started_again(begun: Study) -> None:
    with Ledger.open(begun.folder), pytest.raises(ValueError, match="is running already"):
        begun.run(resume=True)


SCRIPT = """
    import sys
    from pathlib import Path
    from search import Study
    from search.study_config import load_study
    from tests.fakes import FakeTrial

    if __name__ == "__main__":
        study = Study(load_study(sys.argv[1]), out=Path(sys.argv[2]), trainable=FakeTrial)
        print(study.run(resume=True).status)
"""


class Driver:
    """Starts a study in a process of its own, and kills that with all its descendants."""

    def __init__(self, folder: Path, config_file: Path) -> None:
        self.command = [sys.executable, str(folder / "drive.py"), str(config_file), str(folder)]
        (folder / "drive.py").write_text(textwrap.dedent(SCRIPT))
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "FAKE_EPOCH_S": "0.4",
        }

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command, env=self.environment, stdout=subprocess.PIPE, text=True
        )

    @staticmethod
    def kill(process: subprocess.Popen[str]) -> None:
        family = [psutil.Process(process.pid)]
        family += family[0].children(recursive=True)
        for member in family:
            member.kill()
        psutil.wait_procs(family, timeout=20)
        process.communicate()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [[], ["search.algorithm=grid", "space={batch_size: {choice: [1, 2, 3, 4, 5, 6]}}"]],
    ids=["random", "grid"],
)
def test_study_killed_with_all_its_processes_ends_with_the_same_trials(
    data: Path, tmp_path: Path, ray_local: None, overrides: list[str]
) -> None:
    alone = study(data, *overrides, "search.trials=8").run()
    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / "study.yaml").write_text(dump_study(alone.config))
    driver, rng, folder = Driver(killed, killed / "study.yaml"), random.Random(0), killed / "tiny"
    stops: list[Stop] = []

    for num_reports in (1, 5, 9):
        process = driver.start()
        while len(read_trained(folder)) < num_reports and process.poll() is None:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 0.8))
        driver.kill(process)
        stops.append(stop_of(folder))
    output, _ = driver.start().communicate(timeout=120)

    result = read_result(folder)
    assert output.strip().splitlines()[-1] == "completed"
    assert points(result.trials) == points(alone.trials)
    assert_only_unreported_epochs_were_trained_again(folder, result, stops)
    for trial in result.trials:
        assert json.dumps(dict(trial.params))
        assert [report.epoch for report in trial.reports] == list(range(1, trial.last_epoch + 1))
