"""What the README tells its reader to type works."""

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from search.cli import clicktune
from search.study_config import parse_study

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("bash") for line in block.splitlines() if line]


def shrink(command: str, encoder: Path) -> str:
    """Return a command as the README has it, with a tiny encoder and few trials."""
    words = shlex.split(command)
    if words[:2] not in (["clicktune", "search"], ["clicktune", "trial"]):
        return command
    small = f"encoder={{name: {encoder}, max_tokens: 32}}"
    trials = ["--set", f"search.trials={3 if '--resume' in words else 2}"]
    ladders = ("compression.layer_fractions=[1.0]", "compression.keep_fractions=[1.0]")
    fast = [word for ladder in ladders for word in ("--set", ladder)]
    return shlex.join([*words, "--set", small, *trials, *fast])


def run_shell(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_readme_has_commands_and_one_study() -> None:
    assert {"make quickstart", "make test", "clicktune search shop.yaml"} <= set(COMMANDS)
    assert len(blocks("yaml")) == 1
    assert len(blocks("python")) == 1


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_command_has_its_target(command: str) -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")

    target = command.split()[1]
    output = subprocess.run(
        [make, "-n", target], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert {"quickstart": "clicktune quickstart", "test": "pytest"}[target] in output


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("clicktune ")])
def test_command_has_known_options(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)[1:]
    group = clicktune.commands[words[0]]
    command_words = words[1:]
    while hasattr(group, "commands"):
        group = group.commands[command_words.pop(0)]

    # A folder that must exist is the only thing that parsing may miss here.
    for parameter in group.params:
        if hasattr(parameter.type, "exists"):
            monkeypatch.setattr(parameter.type, "exists", False)
    group.make_context(words[0], command_words)


def test_study_is_valid_and_the_table_of_keys_is_complete() -> None:
    config = parse_study(blocks("yaml")[0])

    assert config.name == "shop"
    listed = set(re.findall(r"`([a-z]+)`", "".join(re.findall(r"^\| (`.*?) \|", README, re.M))))
    assert {field.name for field in dataclasses.fields(config)} - {"name"} <= listed


@pytest.mark.slow
def test_simulated_log_fits_the_study(tmp_path: Path, tiny_encoder: Path) -> None:
    (tmp_path / "shop.yaml").write_text(blocks("yaml")[0])

    for command in COMMANDS:
        if command.startswith("clicktune data") or command.endswith("--dry-run"):
            result = run_shell(shrink(command, tiny_encoder), tmp_path)
            assert result.returncode == 0, f"{command}: {result.stderr}"
            assert result.stderr == ""


@pytest.mark.parametrize("command", [c for c in COMMANDS if "HEAD" in c])
def test_command_for_a_cluster_reaches_for_it(
    command: str, tmp_path: Path, tiny_encoder: Path
) -> None:
    (tmp_path / "shop.yaml").write_text(blocks("yaml")[0])
    simulated = run_shell("clicktune data simulate shop-log --aggregate", tmp_path)
    assert simulated.returncode == 0
    # Nothing listens at port 1 of this machine.
    here = re.sub(r"HEAD:\d+", "127.0.0.1:1", command).replace("/shared", str(tmp_path))

    result = run_shell(shrink(here, tiny_encoder), tmp_path)

    assert result.returncode == 2
    assert "nothing answers at" in result.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_readme_from_top_to_bottom(tmp_path: Path, tiny_encoder: Path) -> None:
    (tmp_path / "shop.yaml").write_text(blocks("yaml")[0])

    for command in COMMANDS:
        if command.startswith("make ") or "HEAD" in command:
            continue
        result = run_shell(shrink(command, tiny_encoder), tmp_path)
        assert result.returncode == 0, f"{command}: {result.stdout}\n{result.stderr}"

    assert (tmp_path / "predicted.csv").read_text().count("\n") == 3
    code = blocks("python")[0] + "\nassert 0 < probabilities[0] < 1"
    result = run_shell(shlex.join([sys.executable, "-c", code]), tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_quickstart_ends_with_predictions_and_can_be_run_again(
    tmp_path: Path, tiny_encoder: Path
) -> None:
    settings = [f"encoder.name={tiny_encoder}", "space.tuned_layers=1", "search.trials=2"]
    small = [word for setting in settings for word in ("--set", setting)]
    command = shlex.join(["clicktune", "quickstart", *small])

    first = run_shell(command, tmp_path)

    assert first.returncode == 0, first.stderr
    for text in ("leaderboard", "TF-IDF", "ceiling", "verified the bundle", "report: runs/"):
        assert text in first.stdout
    assert "predicted click probabilities" in first.stdout
    again = run_shell(command, tmp_path)
    assert again.returncode == 0, again.stderr
    assert "compressing" not in again.stdout
    assert "scoring the test split" not in again.stdout
