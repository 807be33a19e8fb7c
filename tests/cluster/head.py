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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Head:
    gcs: str
    """Where a driver joins."""
    jobs: str
    """Where jobs are sent."""
    token: Path
    """File with its token."""


@contextlib.contextmanager
def start_head(folder: Path, *, num_cpus: int = 2) -> Iterator[Head]:
    """Start a head with token authentication, and stop exactly its processes at the end."""
    token = folder / "token"
    token.write_text(secrets.token_hex(16))
    home = folder / "home"
    home.mkdir()
    ports = _free_ports(4)
    bin_folder = str(Path(sys.executable).parent)
    environment = {
        # Its workers import the code that is shipped to them, not this checkout.
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "HOME": str(home),
        "PATH": os.pathsep.join((bin_folder, os.environ.get("PATH", ""))),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
    }
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
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
            env=environment,
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
