"""Start or join Ray; ship this code to the workers."""

import contextlib
import functools
import importlib.util
import logging
import math
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cluster.memory import free_gpu_memory
from cluster.resources import FILLED_SHARE, Capacity, available_cpus

Answer = TypeVar("Answer")

PACKAGES = ("spaces", "cluster", "trainables", "search")
"""The import packages that workers on other machines need."""

OBJECT_STORE_BYTES = 200_000_000
"""Shared memory of a local Ray; trials pass paths, not arrays, so the default of 30 % of all memory
would only be in the way of what runs beside it."""

PROBE_TIMEOUT_S = 5.0
"""How long an address may take to accept a connection; Ray itself would try for over a minute."""

NODE_TIMEOUT_S = 60.0
"""How long a node may take to start a worker and look at a folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConnection:
    """A Ray that this process is connected to."""

    address: str | None
    """Where it was joined; None for one that runs on this machine for this process alone."""
    num_nodes: int
    """Machines in it."""


@contextlib.contextmanager
def connect(address: str | None, *, num_cpus: int | None = None) -> Iterator[ClusterConnection]:
    """Start a Ray on this machine, or join a cluster; leave it at the end.

    A Ray that was started here is shut down at the end, a cluster is only disconnected from.
    Without an address nobody else's Ray is ever joined, even where one runs on this machine or
    RAY_ADDRESS is set; only a Ray that this very process is connected to already is used as it is,
    and left so.

    Args:
        address: ``HOST:PORT`` of a cluster's head, or ``auto`` on one of its machines; None starts
            a Ray here.
        num_cpus: CPU cores of a Ray that is started here; None: all that this process may use.

    Raises:
        ValueError: if the address is none that can be joined, or ``num_cpus`` comes with one.
        ConnectionError: if nothing answers there, the token is missing or wrong, or its versions of
            Ray or Python aren't these.
    """
    import ray

    if address is not None:
        check_address(address)
        if num_cpus is not None:
            raise ValueError(
                f"num_cpus is {num_cpus}, but a joined cluster has its own; leave it out"
            )
    if ray.is_initialized():
        if address is not None:
            raise ValueError(
                f"can't join {address}: this process is connected to a Ray already; "
                "call ray.shutdown() first"
            )
        yield ClusterConnection(address=None, num_nodes=len(_alive_nodes()))
        return
    quiet_ray()
    try:
        if address is None:
            _start(num_cpus or available_cpus())
        else:
            _join(address)
        yield ClusterConnection(address=address, num_nodes=len(_alive_nodes()))
    finally:
        ray.shutdown()


def check_address(address: str) -> None:
    """Check the form of an address, before anything is started.

    Raises:
        ValueError: if it belongs to a job server or a Ray client, or isn't ``HOST:PORT``.
    """
    if address == "auto":
        return
    if address.startswith(("http://", "https://")):
        raise ValueError(
            f"{address} is a cluster's job server; use clicktune submit to send the study there, "
            "or give --address HOST:6379 on one of the cluster's machines"
        )
    if "://" in address:
        raise ValueError(
            f"{address} can't be joined: a study needs a direct connection; "
            "give --address HOST:6379 on one of the cluster's machines, or use clicktune submit"
        )
    host, _, port = address.rpartition(":")
    # A higher port would be cut to 16 bits without a word, and another one asked.
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"address must be HOST:PORT or auto, got {address!r}")


def capacity() -> Capacity:
    """Return what the connected Ray offers, machine by machine."""
    offers = [node["Resources"] for node in _alive_nodes()]
    nodes = tuple((offer.get("CPU", 0.0), offer.get("GPU", 0.0)) for offer in offers)
    return Capacity(
        cpus=sum(cpus for cpus, _ in nodes),
        gpus=sum(gpus for _, gpus in nodes),
        nodes=nodes,
        # Ray counts what a machine had when it joined, its object store aside.
        memory=tuple(offer.get("memory", math.inf) * FILLED_SHARE for offer in offers),
    )


def check_shared_folder(folder: Path) -> None:
    """Make sure that every machine of the connected cluster sees a folder of this one.

    Args:
        folder: Must exist.

    Raises:
        ValueError: if a machine doesn't see it; the text names the machines.
    """
    nodes = _alive_nodes()
    if len(nodes) == 1:
        return
    # A worker's current folder is another one.
    marker = folder.absolute() / f".seen-by-all-{uuid.uuid4().hex}"
    marker.write_text("", encoding="utf-8")
    try:
        missing = nodes_without(marker, [node["NodeID"] for node in nodes])
    finally:
        marker.unlink()
    if missing:
        names = [node["NodeManagerHostname"] for node in nodes if node["NodeID"] in missing]
        raise ValueError(
            f"{folder} is not visible on {len(missing)} of {len(nodes)} machines of the cluster "
            f"({', '.join(names)}); set --out to a folder that all of them share"
        )


def nodes_without(path: Path, node_ids: Sequence[str]) -> set[str]:
    """Return those of the connected cluster's machines on which a path does not exist.

    A machine that doesn't answer within a minute counts as one of them.
    """
    answers = ask_nodes(functools.partial(os.path.exists, str(path)), node_ids)
    return {node_id for node_id in node_ids if not answers.get(node_id, False)}


def free_memory_of_gpus() -> float | None:
    """Return the free bytes of that GPU of the connected cluster which has fewest.

    None where a machine with GPUs can't tell.
    """
    node_ids = [node["NodeID"] for node in _alive_nodes() if node["Resources"].get("GPU")]
    found = list(ask_nodes(free_gpu_memory, node_ids).values())
    known = [free for free in found if free is not None]
    return min(known) if known and len(known) == len(node_ids) else None


def ask_nodes(ask: Callable[[], Answer], node_ids: Sequence[str]) -> dict[str, Answer]:
    """Call a function on machines of the connected cluster, whatever else runs there.

    Args:
        ask: The function.
        node_ids: Ray's names of the machines.

    Returns:
        What it returned on each machine, without those that failed or took over a minute.
    """
    if not node_ids:
        return {}
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @ray.remote(num_cpus=0, max_retries=0)  # type: ignore[untyped-decorator, unused-ignore]
    def call() -> Answer:
        return ask()

    answers = {
        call.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)
        ).remote(): node_id
        for node_id in node_ids
    }
    answered, _ = ray.wait(list(answers), num_returns=len(answers), timeout=NODE_TIMEOUT_S)
    found = {}
    for answer in answered:
        # A machine may have gone.
        with contextlib.suppress(RayError):
            found[answers[answer]] = ray.get(answer)
    return found


def package_folders() -> list[str]:
    """Return the folders of ClickTune's own packages, for Ray to copy to other machines."""
    folders = []
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None, name
        assert spec.submodule_search_locations, name
        folders.append(next(iter(spec.submodule_search_locations)))
    return folders


def quiet_ray() -> None:
    """Keep Ray's own lines about starting and uploading out of the study's."""
    importlib.import_module("ray.dashboard.modules.job.sdk")  # It sets its own level when imported.
    for name in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)


def allow_token() -> None:
    """Make this process present the user's Ray token, if there is one, to clusters it talks to.

    Ray does so by itself only for clusters on this machine. The token is the one in RAY_AUTH_TOKEN,
    in the file that RAY_AUTH_TOKEN_PATH names, or in ``~/.ray/auth_token``; RAY_AUTH_MODE=disabled
    keeps it back.
    """
    from ray._private.authentication import authentication_token_setup

    authentication_token_setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def _start(num_cpus: int) -> None:
    import ray

    ray.init(
        address="local",
        num_cpus=num_cpus,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def _join(address: str) -> None:
    import ray
    from ray.exceptions import AuthenticationError, RaySystemError

    if address != "auto":
        _probe(address)
    allow_token()
    try:
        ray.init(
            address=address,
            runtime_env=_shipped_code(),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except AuthenticationError as error:
        raise ConnectionError(f"the cluster at {address} was not joined: {_NO_TOKEN}") from error
    except (ConnectionError, RuntimeError, RaySystemError) as error:
        raise ConnectionError(_explain(address, error)) from error


def _shipped_code() -> dict[str, Any]:
    # A submitted job has its code from the submission; Ray refuses to be told twice.
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return {}
    return {"py_modules": package_folders()}


_NO_TOKEN = (
    "it wants a token and none was found, or another one than it has; put the cluster's token into "
    "~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH to its file"
)


def _probe(address: str) -> None:
    """Fail in seconds, with a reason, where Ray would try for over a minute."""
    host, _, port = address.rpartition(":")
    try:
        server = socket.create_connection((host.strip("[]"), int(port)), PROBE_TIMEOUT_S)
    except OSError as error:
        raise ConnectionError(
            f"nothing answers at {address} ({error.strerror or error}); check the address, and "
            "that the head runs (ray start --head)"
        ) from error
    with server:
        try:
            server.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = server.recv(7)
        except OSError:
            answer = b""  # It listens; whether it is Ray is for Ray to find out.
    if answer.startswith(b"HTTP/1."):
        raise ConnectionError(
            f"{address} is a web server, probably the cluster's dashboard; join its head, usually "
            f"at {host}:6379, or use clicktune submit --address http://{address}"
        )


def _explain(address: str, error: BaseException) -> str:
    """Find in Ray's chain of errors what a user can do about it."""
    texts = []
    cause: BaseException | None = error
    while cause is not None:
        texts.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    told = "\n".join(texts)
    if "InvalidAuthToken" in told or "Unauthenticated" in told:
        return f"the cluster at {address} was not joined: {_NO_TOKEN}"
    if "ersion mismatch" in told:
        told = " ".join(told.split())
        return f"the cluster at {address} runs other versions than this process: {told}"
    if address == "auto":
        return f"no cluster was found on this machine ({texts[0]}); give its head as HOST:PORT"
    return (
        f"the cluster at {address} was not joined ({texts[0]}); this machine must be one of the "
        f"cluster's (ray start --address {address}), or use clicktune submit from elsewhere"
    )


def _alive_nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]
