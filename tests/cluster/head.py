"""A cluster of one machine as ``ray start`` makes it, with its own ports, folder and token."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

START_TIMEOUT_S = 120.0
RAY_START = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block")


@dataclass(frozen=True)
class Head:
    gcs: str
    """Where a driver joins."""
    jobs: str
    """Where jobs are sent."""
    token: Path
    """File with its token."""


@contextlib.contextmanager
def start_head(
    folder: Path, *, num_cpus: int = 2, environment: Mapping[str, str] | None = None
) -> Iterator[Head]:
    """Start a head with token authentication, and stop exactly its processes at the end.

    Args:
        folder: For its files.
        num_cpus: What it offers.
        environment: Further variables of its processes.
    """
    token = folder / "token"
    token.write_text(secrets.token_hex(16))
    home = folder / "home"
    home.mkdir()
    ports = _free_ports(4)
    command = [
        *(*RAY_START, "--head"),
        *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"),
        f"--port={ports[0]}",
        f"--dashboard-port={ports[1]}",
        f"--ray-client-server-port={ports[2]}",
        f"--dashboard-agent-listen-port={ports[3]}",
        f"--num-cpus={num_cpus}",
        "--object-store-memory=200000000",
        "--disable-usage-stats",
    ]
    # Sockets in a test's own folder would have names longer than Linux allows.
    short = Path(tempfile.mkdtemp(prefix="head-", dir="/tmp"))
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--temp-dir={short}"],
            env=_environment(home, token, environment),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        jobs = f"http://127.0.0.1:{ports[1]}"
        _wait_until_it_answers(jobs, process, folder / "head.log")
        yield Head(gcs=f"127.0.0.1:{ports[0]}", jobs=jobs, token=token)
    finally:
        _stop(process)
        shutil.rmtree(short, ignore_errors=True)


@contextlib.contextmanager
def start_node(
    folder: Path,
    head: Head,
    *,
    num_cpus: int = 1,
    environment: Mapping[str, str] | None = None,
) -> Iterator[psutil.Process]:
    """Add a machine to a head's cluster, as far as Ray is concerned: another raylet and address.

    Yields:
        Its raylet, whose end is the machine's.
    """
    command = [
        *(*RAY_START, f"--address={head.gcs}", "--node-ip-address=127.0.0.2"),
        f"--num-cpus={num_cpus}",
        "--object-store-memory=200000000",
        "--disable-usage-stats",
    ]
    with (folder / "node.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=_environment(folder / "home", head.token, environment),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield _wait_for_raylet(process, folder / "node.log")
    finally:
        _stop(process)


def _environment(home: Path, token: Path, more: Mapping[str, str] | None) -> dict[str, str]:
    bin_folder = str(Path(sys.executable).parent)
    return {
        # Workers import the code that is shipped to them, not this checkout.
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "HOME": str(home),
        "PATH": os.pathsep.join((bin_folder, os.environ.get("PATH", ""))),
        "PYTHONUNBUFFERED": "1",  # Its log is waited for.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        **(more or {}),
    }


def _wait_for_raylet(process: "subprocess.Popen[bytes]", log: Path) -> psutil.Process:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        children = psutil.Process(process.pid).children(recursive=True)
        for child in children:
            if child.name() == "raylet" and "Ray runtime started" in log.read_text():
                return child
        time.sleep(0.3)
    raise AssertionError(f"no node after {START_TIMEOUT_S} s:\n{log.read_text()}")


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for unused in sockets:
            unused.bind(("127.0.0.1", 0))
        return [unused.getsockname()[1] for unused in sockets]


def _wait_until_it_answers(jobs: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{jobs}/api/version", timeout=5).close()
        except urllib.error.HTTPError as error:
            if error.code == 401:  # It wants its token.
                return
        except OSError:
            pass
        time.sleep(0.3)
    raise AssertionError(f"no head after {START_TIMEOUT_S} s:\n{log.read_text()}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    # Its own group: all processes of this head, and nobody else's. It has no work to put down.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
