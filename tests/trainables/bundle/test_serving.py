"""A bundle behind HTTP answers as its predictor does, and refuses with a status and a reason."""

import json
import socket
import threading
import time
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
from trainables.bundle.batcher import BatchLimits

uvicorn = pytest.importorskip("uvicorn", reason="the extra clicktune[serve] is not installed")
pytest.importorskip("fastapi", reason="the extra clicktune[serve] is not installed")

CONFIG = {"max_body_bytes": 20_000, "max_rows": 50, "limits": BatchLimits(max_batch_rows=16)}


@pytest.fixture(scope="module")
def predictor(shared_bundles: dict[str, Path]) -> Predictor:
    return Predictor(shared_bundles["fp32"], num_threads=1)


@pytest.fixture(scope="module")
def address(predictor: Predictor) -> Iterator[str]:
    from trainables.bundle.serving import ServingConfig, build_app

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(build_app(predictor, ServingConfig(**CONFIG)), log_level="warning")  # type: ignore[arg-type]
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        deadline = time.monotonic() + 60
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.started
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def ask(address: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    request = urllib.request.Request(f"{address}{path}", data=body)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            content, status = response.read(), response.status
    except urllib.error.HTTPError as error:
        content, status = error.read(), error.code
    try:
        return status, json.loads(content)
    except ValueError:
        return status, content.decode()


def predict(address: str, content: object) -> tuple[int, Any]:
    return ask(address, "/predict", json.dumps(content).encode())


def test_one_row_and_many_give_what_the_predictor_gives(address: str, predictor: Predictor) -> None:
    expected = predictor.predict(ROWS)

    status, many = predict(address, {"rows": ROWS})
    assert status == 200
    np.testing.assert_allclose(many["probabilities"], expected, atol=1e-6)
    for row, value in zip(ROWS, expected, strict=True):
        status, one = predict(address, row)
        assert status == 200
        assert one["probability"] == pytest.approx(value, abs=1e-6)


def test_many_clients_at_once_each_get_their_own(address: str, predictor: Predictor) -> None:
    chosen = [ROWS[number % len(ROWS)] for number in range(60)]
    expected = predictor.predict(chosen)

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda row: predict(address, row), chosen))

    assert {status for status, _ in found} == {200}
    np.testing.assert_allclose([c["probability"] for _, c in found], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "the body is not JSON"),
        (b"[]", 400, "expected a row, as an object"),
        (b"3", 400, "expected a row, as an object"),
        (b'{"rows": []}', 400, "at least one row"),
        (b'{"rows": [3]}', 400, "row 0: expected an object, got 3"),
        (b'{"rows": {}}', 400, "at least one row"),
        (b'{"x": NaN}', 400, "NaN is no JSON"),
        (b'{"nothing": 1}', 422, "no column"),
        (b"x" * 30_000, 413, "up to 20,000 bytes"),
        (json.dumps({"rows": [{}] * 51}).encode(), 413, "up to 50 rows, got 51"),
        (b"[" * 15_000, 400, "the body is not JSON"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_reason(
    address: str, body: bytes, status: int, reason: str
) -> None:
    found, content = ask(address, "/predict", body)

    assert found == status
    assert reason in content["error"]


def test_a_value_of_a_wrong_kind_names_its_column(address: str, predictor: Predictor) -> None:
    name = predictor.features.text[0]

    status, content = predict(address, {"rows": [ROWS[0], {**ROWS[1], name: 3}]})

    assert status == 422
    assert f"column '{name}': expected text, got 3" in content["error"]


def test_health_metrics_and_the_page_tell_what_is_served(
    address: str, predictor: Predictor
) -> None:
    predict(address, ROWS[0])

    assert ask(address, "/health")[1]["status"] == "ok"
    status, text = ask(address, "/metrics")
    assert status == 200
    assert 'clicktune_requests_total{status="200"}' in text
    assert "clicktune_batch_rows_bucket" in text
    status, schema = ask(address, "/openapi.json")
    row = schema["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert set(row["schema"]["anyOf"][0]["properties"]) == set(predictor.features.columns)
    answers = schema["paths"]["/predict"]["post"]["responses"]
    assert {"200", "400", "413", "422", "429"} <= set(answers)
    assert ask(address, "/docs")[0] == 200
    assert ask(address, "/nowhere")[0] == 404


def test_a_body_whose_length_is_not_told_is_bounded_too(address: str) -> None:
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Connection: close\r\n\r\n"
        )
        # The last of these is beyond the limit; that the body goes on doesn't matter any more.
        for _ in range(3):
            client.sendall(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += client.recv(4096)

    assert answer.startswith(b"HTTP/1.1 413")
