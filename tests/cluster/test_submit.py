"""A study is sent to a cluster as a job, with the user's token, and its log is followed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.submit import submit_study
from tests.cluster.head import Head, start_head

SEND = """
import sys
from cluster.submit import run_job

outcome = run_job(
    sys.argv[2],
    address=sys.argv[1],
    files={"study.yaml": "name: sent"},
    on_line=lambda line: print(line, flush=True),
)
print("outcome:", outcome.status, outcome.message)
print("exit code:", outcome.exit_code)
"""

SUBMIT = """
import sys
from cluster.submit import submit_study

outcome = submit_study("nmae: typo", address=sys.argv[1], out=sys.argv[2], on_line=print)
print("outcome:", outcome.status, outcome.exit_code)
"""

JOIN = """
import sys
import ray
from cluster.connect import capacity, connect

with connect(sys.argv[1]) as connection:
    print(connection.num_nodes, capacity().cpus)

    @ray.remote
    def where():
        import search, spaces
        return search.__file__, spaces.__file__

    print(*ray.get(where.remote()))
"""

WORDS = ["red", "blue", "green", "black"]

STUDY = """
name: sent
data:
  path: {table}
  columns: {{text: [title], label: click}}
encoder: {{name: {encoder}, max_tokens: 16}}
space: {{learning_rate: {{choice: [1.0e-3, 1.0e-4]}}, method: full}}
search: {{algorithm: grid, scheduler: none, trials: 2, epochs: 1}}
compression:
  {{max_metric_drop: 0.5, layer_fractions: [1.0], keep_fractions: [1.0], recovery_epochs: 0}}
winners: 1
"""

LOOK = "import os, search, spaces; print(os.listdir(), search.__file__, spaces.__file__)"


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with start_head(tmp_path_factory.mktemp("head")) as started:
        yield started


def environment(home: Path, token: Path | None) -> dict[str, str]:
    """Return the variables of a user whose only token is the given one."""
    settings = {**os.environ, "HOME": str(home), "RAY_ADDRESS": "127.0.0.1:1"}
    for name in ("PYTHONPATH", "RAY_AUTH_MODE"):
        settings.pop(name, None)
    return settings if token is None else {**settings, "RAY_AUTH_TOKEN_PATH": str(token)}


def run(code: str, *arguments: str, home: Path, token: Path | None) -> str:
    """Run code in a process of its own, and return what it printed, its last error included."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment(home, token),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return done.stdout + done.stderr


def test_an_output_folder_inside_the_jobs_own_is_refused() -> None:
    with pytest.raises(ValueError, match="--out must be an absolute path on the cluster"):
        submit_study("", address="http://127.0.0.1:1", out="runs", on_line=print)


def test_an_address_that_is_no_web_address_is_refused() -> None:
    with pytest.raises(ValueError, match="like http://HOST:8265, got 'head:6379'"):
        submit_study("", address="head:6379", out="/runs", on_line=print)


def test_a_job_server_that_does_not_answer_is_reported() -> None:
    with pytest.raises(ConnectionError, match=r"nothing answers at http://127\.0\.0\.1:1 "):
        submit_study("", address="http://127.0.0.1:1", out="/runs", on_line=print)


@pytest.mark.ray
@pytest.mark.slow
class TestWithAHead:
    def test_a_job_runs_this_code_and_its_log_and_end_are_told(
        self, head: Head, tmp_path: Path
    ) -> None:
        told = run(SEND, head.jobs, f'python -c "{LOOK}"', home=tmp_path, token=head.token)

        assert "Submitted as raysubmit_" in told
        assert re.search(r"\['study.yaml'\] \S+py_modules\S+ \S+py_modules\S+", told), told
        assert "outcome: SUCCEEDED" in told

    def test_a_job_that_fails_says_so(self, head: Head, tmp_path: Path) -> None:
        told = run(SEND, head.jobs, "echo nearly; exit 3", home=tmp_path, token=head.token)

        assert "nearly\n" in told
        assert re.search(r"outcome: FAILED .*exit code 3\n", told), told
        assert "exit code: 3" in told

    def test_a_study_is_run_by_the_command_on_the_head(self, head: Head, tmp_path: Path) -> None:
        told = run(SUBMIT, head.jobs, str(tmp_path), home=tmp_path, token=head.token)

        assert "did you mean 'name'" in told
        assert "outcome: FAILED 2" in told

    def test_a_submitted_study_ends_with_a_bundle(
        self, head: Head, tmp_path: Path, tiny_encoder: Path
    ) -> None:
        table = tmp_path / "clicks.csv"
        rows = [f"{word} shoe {number},{number % 2}" for number, word in enumerate(WORDS * 60)]
        table.write_text("\n".join(["title,click", *rows]))
        study = STUDY.format(table=table, encoder=tiny_encoder)
        code = SUBMIT.replace('"nmae: typo"', repr(study))

        told = run(code, head.jobs, str(tmp_path / "out"), home=tmp_path, token=head.token)

        assert "outcome: SUCCEEDED" in told, told
        assert (tmp_path / "out" / "sent" / "best" / "manifest.json").is_file()

    @pytest.mark.parametrize("wrong", [False, True], ids=["missing", "wrong"])
    def test_a_token_that_does_not_fit_is_reported(
        self, head: Head, tmp_path: Path, wrong: bool
    ) -> None:
        token = tmp_path / "other"
        token.write_text("0" * 32)
        expected = r"ConnectionError: .* a token and none was found, or another one than it has"
        for code, address in ((SEND, head.jobs), (JOIN, head.gcs)):
            told = run(code, address, "true", home=tmp_path, token=token if wrong else None)

            assert re.search(expected, told), told

    def test_ctrl_c_leaves_the_job_running_and_says_how_to_go_on(
        self, head: Head, tmp_path: Path
    ) -> None:
        # A process begun in a shell's background ignores it, and so would its children.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with subprocess.Popen(
            [sys.executable, "-c", SEND, head.jobs, "echo begun; sleep 300"],
            env=environment(tmp_path, head.token),
            stdout=subprocess.PIPE,
            text=True,
        ) as following:
            assert following.stdout is not None
            told = ""
            for line in following.stdout:
                told += line
                if line == "begun\n":
                    following.send_signal(signal.SIGINT)
        assert following.returncode == 0
        assert "outcome: RUNNING" in told
        assert f"ray job logs --follow --address {head.jobs} raysubmit_" in told
        assert f"ray job stop --address {head.jobs} raysubmit_" in told

    def test_a_driver_joins_with_the_token_and_ships_this_code(
        self, head: Head, tmp_path: Path
    ) -> None:
        told = run(JOIN, head.gcs, home=tmp_path, token=head.token)

        assert re.search(r"^1 2\.0$", told, re.MULTILINE), told
        assert re.search(r"^\S+py_modules\S+ \S+py_modules\S+$", told, re.MULTILINE), told
