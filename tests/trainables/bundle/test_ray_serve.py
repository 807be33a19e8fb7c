"""A Ray Serve application answers as its predictor does, and refuses before anything starts."""

import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainables.bundle.conftest import ROWS
from trainables.bundle import Predictor
from trainables.bundle.manifest import hash_predictor
from trainables.bundle.ray_serve import (
    ApplicationConfig,
    BundleReplica,
    build_application,
    read_arguments,
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "the argument bundle is missing; give bundle=FOLDER"),
        ({"bundel": "b"}, "unknown argument 'bundel'; did you mean 'bundle'?"),
        ({"bundle": "b", "colour": "red"}, "unknown argument 'colour'; known: bundle, num_rep"),
        ({"bundle": 3}, "bundle: Input is not a valid path"),
        ({"bundle": "b", "num_replicas": "0"}, "num_replicas must be at least 1, got 0"),
        ({"bundle": "b", "threads": "two"}, "threads: Input should be a valid integer"),
        ({"bundle": "b", "max_wait_ms": "nan"}, "max_wait_ms: Input should be a finite number"),
        ({"bundle": "b", "max_wait_ms": -1}, "max_wait_ms must be at least 0, got -1"),
        ({"bundle": "b", "max_queue_rows": 0}, "max_queue_rows must be at least 1, got 0"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build_application(arguments)


def test_a_command_line_gives_numbers_as_text() -> None:
    found = read_arguments({"bundle": "b", "num_replicas": "2", "max_wait_ms": "0.5"})

    assert found == ApplicationConfig(bundle=Path("b"), num_replicas=2, max_wait_ms=0.5)


def test_a_folder_that_is_no_bundle_is_refused_before_anything_starts(
    bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"there is no bundle at .*: it is not a folder"):
        build_application({"bundle": tmp_path / "nowhere"})
    with pytest.raises(ValueError, match=r"it has no file manifest\.json"):
        build_application({"bundle": tmp_path})
    with (bundle / "model.onnx").open("ab") as graph:
        graph.write(b"x")
    with pytest.raises(ValueError, match="was changed after the export"):
        build_application({"bundle": bundle})


def test_a_replica_loads_no_other_bundle_than_the_application_was_built_for(
    shared_bundles: dict[str, Path],
) -> None:
    hashes = {name: hash_predictor(folder) for name, folder in shared_bundles.items()}
    config = ApplicationConfig(bundle=shared_bundles["fp32"])

    BundleReplica(str(shared_bundles["fp32"]), hashes["fp32"], config)
    with pytest.raises(ValueError, match="fp32 holds another bundle here than where and when"):
        BundleReplica(str(shared_bundles["fp32"]), hashes["int8"], config)


def test_without_the_extra_it_says_what_to_install(shared_bundles: dict[str, Path]) -> None:
    # A process of its own, because this one may have imported Ray Serve already.
    program = (
        "import sys\n"
        "sys.modules['starlette'] = None\n"
        "from trainables.bundle.ray_serve import build_application\n"
        "build_application({'bundle': sys.argv[1]})\n"
    )
    command = [sys.executable, "-c", program, str(shared_bundles["fp32"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)

    assert done.returncode == 1
    assert "pip install 'clicktune[ray-serve]'" in done.stderr


@pytest.fixture
def address(shared_bundles: dict[str, Path], ray_local: None) -> Iterator[str]:
    serve = pytest.importorskip("ray.serve", reason="clicktune[ray-serve] is not installed")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    arguments = {"bundle": str(shared_bundles["fp32"]), "num_replicas": "2", "threads": "1"}
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(build_application(arguments))
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()


def ask(address: str, path: str, content: object = None) -> tuple[int, str]:
    body = None if content is None else json.dumps(content).encode()
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{address}{path}", data=body), timeout=60
        ) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.ray
@pytest.mark.slow
def test_each_replica_answers_as_the_predictor_does(
    address: str, shared_bundles: dict[str, Path]
) -> None:
    from ray import serve

    expected = Predictor(shared_bundles["fp32"], num_threads=1).predict(ROWS)

    # At the same time, because a single client is always answered by the same replica.
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: ask(address, "/predict", {"rows": ROWS}), range(60)))
    for status, many in found:
        assert status == 200
        np.testing.assert_allclose(json.loads(many)["probabilities"], expected, atol=1e-6)
    status, metrics = ask(address, "/metrics")
    assert status == 200
    counted = re.search(r'^clicktune_requests_total{status="200"} (\S+)$', metrics, re.MULTILINE)
    assert counted is not None
    assert 0 < float(counted[1]) < 60

    status, one = ask(address, "/predict", ROWS[0])
    assert status == 200
    assert json.loads(one)["probability"] == pytest.approx(expected[0], abs=1e-6)
    status, refused = ask(address, "/predict", {"nothing": 1})
    assert status == 422
    assert "no column" in json.loads(refused)["error"]

    assert json.loads(ask(address, "/health")[1])["status"] == "ok"
    deployment = serve.status().applications["default"].deployments["bundle"]
    assert deployment.replica_states == {"RUNNING": 2}
