"""What clicktune bundle refuses before it begins."""

import socket

import pytest

from search.cli import run

pytest.importorskip("uvicorn", reason="the extra clicktune[serve] is not installed")


def test_an_address_that_is_taken_is_refused_before_the_bundle_is_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        code = run(["bundle", "serve", "nowhere", "--port", port])

    assert code == 2
    told = f"can't listen on 127.0.0.1, port {port} (Address already in use)"
    assert told in capsys.readouterr().err


def test_an_address_that_nobody_has_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["bundle", "serve", "nowhere", "--host", "no.such.name."])

    assert code == 2
    told = capsys.readouterr().err
    assert "can't listen on no.such.name., port 8000" in told
    assert "--host" in told
