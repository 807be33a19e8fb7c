"""Send a study to a cluster as a Ray job; follow its log."""

import asyncio
import contextlib
import http.client
import json
import os
import shlex
import tempfile
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast

from cluster.connect import allow_token, package_folders, quiet_ray

JobStatus = Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]
"""Where a job is; the last three are final."""

FINAL: tuple[JobStatus, ...] = ("STOPPED", "SUCCEEDED", "FAILED")

ANSWER_TIMEOUT_S = 10.0
"""How long the job server may take to answer."""

MAX_LOST_CONNECTIONS = 5
"""How often in a row the log's connection may break before following ends."""

STUDY_FILE = "study.yaml"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobOutcome:
    """What is known about a job once it isn't followed any more."""

    job_id: str
    """Ray's name for it."""
    status: JobStatus
    """PENDING or RUNNING if following was interrupted."""
    message: str
    """Ray's explanation of the status."""


def submit_study(
    study: str,
    *,
    address: str,
    out: str,
    on_line: Callable[[str], None],
    arguments: Sequence[str] = (),
    python: str = "python",
) -> JobOutcome:
    """Run a study on a cluster's head, with this code, and follow its log.

    Ctrl-C ends the following and leaves the job running.

    Args:
        study: Text of the resolved study file. Its paths are read on the cluster.
        address: The job server, ``http://HOST:8265``.
        out: Output folder on the cluster, absolute; shared by its machines if there are several.
        on_line: Called with each line of the job's log, and with how to go on after Ctrl-C.
        arguments: Further arguments of ``clicktune search``, like ``--resume``.
        python: Interpreter on the head in whose environment ClickTune's requirements are installed.

    Raises:
        ValueError: if the address or the output folder can't be used.
        ConnectionError: if no Ray job server answers, or it refuses the token.
    """
    if not PurePosixPath(out).is_absolute():
        raise ValueError(
            f"--out must be an absolute path on the cluster for a submitted study, got {out!r}: "
            "the folder that a job starts in is deleted with it"
        )
    command = [python, "-m", "search.cli", "search", STUDY_FILE, "--address", "auto", "--out", out]
    return run_job(
        shlex.join([*command, *arguments]),
        address=address,
        files={STUDY_FILE: study},
        on_line=on_line,
    )


def run_job(
    entrypoint: str, *, address: str, files: Mapping[str, str], on_line: Callable[[str], None]
) -> JobOutcome:
    """Run a command on a cluster's head, with this code on its path, and follow its log.

    Args:
        entrypoint: A shell command.
        address: The job server, ``http://HOST:8265``.
        files: Name to text of what lies in the folder that the command starts in.
        on_line: Called with each line of the log.

    Raises:
        ValueError: if the address isn't an http address.
        ConnectionError: if no Ray job server answers, or it refuses the token.
    """
    client = _open_client(address)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        job_id = client.submit_job(
            entrypoint=entrypoint,
            runtime_env={
                "working_dir": folder,
                "py_modules": package_folders(),
                # Lines appear when they are written, not when a buffer is full.
                "env_vars": {"PYTHONUNBUFFERED": "1"},
            },
        )
    on_line(f"Submitted as {job_id}")
    try:
        asyncio.run(_follow(client, job_id, on_line))
    except KeyboardInterrupt:
        on_line(f"The job goes on. Follow it: ray job logs --follow --address {address} {job_id}")
        on_line(f"Stop it: ray job stop --address {address} {job_id}")
    details = client.get_job_info(job_id)
    return JobOutcome(
        job_id=job_id,
        status=cast("JobStatus", str(details.status.value)),
        # Ray repeats the end of the log, which was handed on above.
        message=(details.message or "").partition(", last available logs")[0],
    )


async def _follow(client: Any, job_id: str, on_line: Callable[[str], None]) -> None:  # noqa: ANN401
    """Hand on the log line by line until the job has ended."""
    import aiohttp
    import requests

    printed = 0
    rest = ""
    lost = 0
    while True:
        try:
            async for chunk in _skip(client.tail_job_logs(job_id), printed):
                printed += len(chunk)
                *lines, rest = (rest + chunk).split("\n")
                for line in lines:
                    on_line(line)
                lost = 0
            # Asked only of a log that ended by itself: one that broke off may have more to say.
            if client.get_job_status(job_id).value in FINAL:
                if rest:
                    on_line(rest)
                return
        except (RuntimeError, aiohttp.ClientError, requests.RequestException):
            # The job runs on without us; the log is asked for again, from where it broke off.
            lost += 1
            if lost > MAX_LOST_CONNECTIONS:
                raise
        await asyncio.sleep(0.5)


async def _skip(chunks: AsyncIterator[str], num_chars: int) -> AsyncIterator[str]:
    """Leave out what was seen before the connection broke; a log is sent from its start."""
    async for chunk in chunks:
        new = chunk[num_chars:]
        num_chars = max(0, num_chars - len(chunk))
        if new:
            yield new


def _open_client(address: str) -> Any:  # noqa: ANN401 - Ray ships no types
    """Connect to a job server, presenting the user's token if there is one."""
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    address = address.rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise ValueError(
            f"a study is submitted to a job server, like http://HOST:8265, got {address!r}"
        )
    _check_server(address)
    quiet_ray()
    allow_token()
    try:
        with _without_ray_address():
            return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise ConnectionError(
            f"{address} wants a token and none was found, or another one than it has; put the "
            "cluster's token into ~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH to its file"
        ) from error
    except (ConnectionError, RuntimeError) as error:
        raise ConnectionError(f"{address} doesn't take jobs: {error}") from error


def _check_server(address: str) -> None:
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=ANSWER_TIMEOUT_S) as answer:
            is_ray = "ray_version" in json.load(answer)
    except urllib.error.HTTPError as error:
        is_ray = error.code in (401, 403)  # Its token is asked for next.
    except (http.client.HTTPException, ValueError):
        is_ray = False
    except OSError as error:
        raise ConnectionError(
            f"nothing answers at {address} ({getattr(error, 'reason', error)}); check the address, "
            "and that the head runs with its dashboard (ray start --head --dashboard-host HOST)"
        ) from error
    if not is_ray:
        raise ConnectionError(
            f"{address} is not a Ray job server; give the head's dashboard, usually port 8265"
        )


@contextlib.contextmanager
def _without_ray_address() -> Iterator[None]:
    # Both variables would silently win over the address that the user gave.
    names = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
