"""A Ray is started or joined on purpose only, and left as it was found."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import ray

from cluster.connect import (
    capacity,
    check_address,
    check_shared_folder,
    connect,
    nodes_without,
    package_folders,
)
from cluster.resources import FILLED_SHARE, Capacity


@pytest.fixture
def web_server() -> Iterator[str]:
    """The address of a web server that is no Ray."""
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def closed_address() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{unused.getsockname()[1]}"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://head:8265", "http://head:8265 is a cluster's job server; use clicktune submit"),
        ("ray://head:10001", "ray://head:10001 can't be joined"),
        ("head", "address must be HOST:PORT or auto, got 'head'"),
        ("head:port", "address must be HOST:PORT or auto, got 'head:port'"),
        ("head:70000", "address must be HOST:PORT or auto, got 'head:70000'"),
        ("", "address must be HOST:PORT or auto, got ''"),
    ],
)
def test_an_address_of_another_kind_is_refused_at_once(address: str, message: str) -> None:
    with pytest.raises(ValueError, match=message), connect(address):
        pass


@pytest.mark.parametrize("address", ["auto", "head:6379", "10.0.0.1:6379", "[::1]:6379"])
def test_addresses_of_heads_are_accepted(address: str) -> None:
    check_address(address)


def test_a_joined_cluster_has_its_own_number_of_cpus() -> None:
    with pytest.raises(ValueError, match="num_cpus is 3"), connect("head:6379", num_cpus=3):
        pass


def test_an_address_at_which_nothing_listens_is_reported_in_seconds(closed_address: str) -> None:
    with (
        pytest.raises(ConnectionError, match=f"nothing answers at {closed_address}.*ray start"),
        connect(closed_address),
    ):
        pass


def test_a_dashboards_address_is_recognized(web_server: str) -> None:
    with (
        pytest.raises(ConnectionError, match=r"is a web server.*clicktune submit"),
        connect(web_server),
    ):
        pass


def test_each_package_that_workers_need_is_shipped() -> None:
    folders = [Path(folder) for folder in package_folders()]

    assert [folder.name for folder in folders] == ["spaces", "cluster", "trainables", "search"]
    assert all((folder / "__init__.py").is_file() for folder in folders)


@pytest.mark.ray
def test_a_ray_of_this_process_alone_is_started_used_and_shut_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed_address: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", closed_address)
    with connect(None, num_cpus=3) as connection:
        assert connection.address is None
        assert connection.num_nodes == 1
        gpus = ray.cluster_resources().get("GPU", 0)
        offered = capacity()
        memory = ray.cluster_resources()["memory"] * FILLED_SHARE
        assert offered == Capacity(cpus=3, gpus=gpus, nodes=((3, gpus),), memory=(memory,))

        nodes = [node["NodeID"] for node in ray.nodes()]
        assert nodes_without(tmp_path, nodes) == set()
        assert nodes_without(tmp_path / "elsewhere", nodes) == set(nodes)
        check_shared_folder(tmp_path)
        assert not list(tmp_path.iterdir())

        with connect(None) as inner:
            assert inner.num_nodes == 1
        assert ray.is_initialized()
        with (
            pytest.raises(ValueError, match="connected to a Ray already"),
            connect(closed_address),
        ):
            pass
    assert not ray.is_initialized()
