"""Requests that one core answers: ``clicktune bundle serve`` beside a plain FastAPI server.

    python tests/benchmarks/serving.py [--bundle FOLDER --checkpoint FOLDER] [--quick]

Both serve the same winner on the loopback, each in a process of its own, pinned to one core with
one thread: ours its bundle (``clicktune bundle serve BUNDLE --threads 1``, defaults else), the
plain one its checkpoint, float32 in torch (``plain_server.py``). Clients in this process, pinned to
another core, each send one row, wait for the answer on the same connection and send the next: a
closed loop of 1 to 32 clients. The sides take turns at every number of clients, in several rounds;
every rate and every latency below is the median over the rounds.

- requests_vs_fastapi: the highest rate, in answers a second, at which our p99 is at most the bound,
  over the highest at which the plain server's is. The bound is common: twice the p99 of the plain
  server with one client at a time. A side's rate is the highest among the numbers of clients at
  which its p99 keeps the bound, and 0 if there is none. So a faster model counts, and batching as
  far as nobody waits for it longer than two requests of the plain server take.
- rate_at_N_vs_fastapi: the ratio of rates with N clients, whatever the latency.
- p99_at_1_vs_fastapi: the ratio of the p99 with one client; below 1 where ours answers sooner.

Without ``--bundle`` and ``--checkpoint`` both models are made here, untrained, of the packaged
MiniLM: the plain one whole, ours with all six layers, int8, and 75 % of their heads and
feed-forward units. That is what compression chose for a winner on the headlines
(docs/measurements.md); how much may go is a question of quality, of which an untrained model has
none, so take a real winner for a claim. ``--keep-fraction 1`` leaves nothing out. The texts are the
headlines', or simulated titles.

The last line is JSON. ``generator_busy`` in its details is the largest share of its core that the
clients took: near 1 they, and not the server, would be what is measured.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import itertools
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measuring import HEADLINES, ROOT, print_result

from spaces.trial_config import TrialConfig
from trainables.bundle.export import (
    library_versions,
    record_baseline,
    record_parity,
    seal_bundle,
    stage_bundle,
    utc_now,
)
from trainables.bundle.features import Features, read_features
from trainables.bundle.manifest import (
    FEATURES_FILE,
    BundleManifest,
    Latency,
    Step,
    check_files,
    read_manifest,
)
from trainables.checkpoint import read_checkpoint_info
from trainables.data.simulate import SimulationConfig, simulate
from trainables.data.token_rows import TextLayout
from trainables.encoder import EncoderConfig, find_encoder, load_tokenizer

AT_LEAST = {"requests_vs_fastapi": 6.0}
SIDES = ("clicktune", "fastapi")
CLIENTS = (1, 2, 4, 8, 16, 32)
TOLD = (1, 8, 32)
"""Numbers of clients whose ratios are in the result."""
BOUND = 2.0
"""Largest p99 of either side, in p99s of the plain server with one client."""
NUM_TEXTS = 1_000
WARM_UP_SHARE = 0.25
"""Of a measurement's seconds, before it."""
START_TIMEOUT_S = 180.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What a side did under some clients."""

    rate: float
    """Answers a second."""
    p50_ms: float
    """Median latency, as a client sees it."""
    p99_ms: float
    """Latency that 99 % of the requests keep."""

    @classmethod
    def median(cls, loads: Sequence["Load"]) -> "Load":
        return cls(
            rate=statistics.median(load.rate for load in loads),
            p50_ms=statistics.median(load.p50_ms for load in loads),
            p99_ms=statistics.median(load.p99_ms for load in loads),
        )

    def rounded(self) -> dict[str, float]:
        return {
            "rate": round(self.rate, 1),
            "p50_ms": round(self.p50_ms, 2),
            "p99_ms": round(self.p99_ms, 2),
        }


class Client(asyncio.Protocol):
    """Sends a request, waits for its answer, and sends the next one over the same connection."""

    def __init__(self, requests: Iterator[bytes], until: float) -> None:
        self.answers: list[tuple[float, float]] = []
        """When each request was sent and answered, in seconds."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._until = until
        self._transport: Any = None
        self._sent = 0.0
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._received = b""
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if not separator or (length is not None and len(body) < int(length[1])):
            return
        now = time.perf_counter()
        if length is None or not head.startswith(b"HTTP/1.1 200 "):
            self._end(RuntimeError(f"a request was answered with {self._received[:300]!r}"))
            return
        self.answers.append((self._sent, now))
        if now < self._until:
            self._send()
        else:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionError("the server closed the connection"))

    def _end(self, error: Exception | None) -> None:
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)
        self._transport.close()


async def press(port: int, requests: Sequence[bytes], num_clients: int, seconds: float) -> Load:
    """Let some clients ask one after the other, for some seconds after a warm-up."""
    loop = asyncio.get_running_loop()
    start = time.perf_counter() + WARM_UP_SHARE * seconds
    stop = start + seconds
    texts = itertools.cycle(requests)
    clients = []
    for _ in range(num_clients):
        _, client = await loop.create_connection(lambda: Client(texts, stop), "127.0.0.1", port)
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    answers = [answer for client in clients for answer in client.answers]
    rate = sum(start <= now < stop for _, now in answers) / seconds
    # Those that were under way at the end count too: they are the ones that waited longest.
    p50, p99 = np.quantile([now - sent for sent, now in answers if now >= start], [0.5, 0.99]) * 1e3
    return Load(rate=rate, p50_ms=float(p50), p99_ms=float(p99))


def write_requests(rows: Sequence[dict[str, str]]) -> list[bytes]:
    """Return each row as an HTTP request."""
    requests = []
    for row in rows:
        body = json.dumps(row).encode()
        head = (
            "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests


@contextlib.contextmanager
def pinned_to(core: int) -> Iterator[None]:
    """Keep this thread, and processes that it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def running(command: Sequence[str], core: int, log: Path) -> Iterator[int]:
    """Run a server on one core; give its port once it answers."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    variables = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    with log.open("wb") as output, pinned_to(core):
        server = subprocess.Popen(
            [*command, "--port", str(port)], env=variables, stdout=output, stderr=output
        )
    try:
        _await_health(server, port, log)
        yield port
    finally:
        server.terminate()
        server.wait(60)


def _await_health(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"a server didn't start; it said:\n{log.read_text(encoding='utf-8')}")


def write_untrained_bundle(output: Path, rows: Sequence[dict[str, str]], keep: float) -> None:
    """Write a bundle of MiniLM in int8 with a share of its heads and units; scores mean nothing."""
    from trainables.compression.graph import export_graph
    from trainables.compression.quantization import quantize_graph
    from trainables.compression.shapes import EncoderShapes, apply_shapes, shapes_of
    from trainables.compression.vocabulary import keep_positions
    from trainables.model import build_text_model

    encoder = EncoderConfig()
    folder = find_encoder(encoder)
    layout = TextLayout.of(len(rows[0]))
    features = Features(text=tuple(rows[0]), max_tokens=encoder.max_tokens, layout=layout)
    model = build_text_model(folder, TrialConfig(), num_segments=layout.num_segments)
    whole = shapes_of(model.encoder)
    shapes = EncoderShapes(
        heads=tuple(max(1, round(keep * heads)) for heads in whole.heads),
        widths=tuple(max(16, 16 * round(keep * width / 16)) for width in whole.widths),
    )
    apply_shapes(model.encoder, shapes)
    keep_positions(model, encoder.max_tokens)
    graphs = [output.with_name(f"{precision}.onnx") for precision in ("fp32", "int8")]
    export_graph(model, graphs[0], max_tokens=encoder.max_tokens)
    quantize_graph(*graphs)
    staging = output.with_name("staging")
    tokenizer = load_tokenizer(folder, max_tokens=encoder.max_tokens)
    scorer = stage_bundle(staging, graph=graphs[1], tokenizer=tokenizer, features=features)
    few = rows[:16]
    inputs = scorer.encode({name: [row[name] for row in few] for name in features.text})
    record_baseline(staging, scorer, inputs, scorer.predict(few))
    draft = BundleManifest(
        name=output.name,
        created=utc_now(),
        task={"kind": "ctr"},
        columns=features.to_columns(),
        encoder={"name": encoder.name, "fingerprint": "", "max_tokens": encoder.max_tokens},
        trial={},
        config_hash="",
        data_fingerprint="",
        libraries=library_versions(),
        compression={"keep_fraction": keep, "precision": "int8", "shapes": shapes.to_dict()},
        metric="roc_auc",
        steps=(Step(name="untrained", metrics={"roc_auc": 0.5}),),
        parity=record_parity(scorer, few, np.full(len(few), 0.5), precision="int8"),
        latency=Latency(median_ms=1.0, num_rows=1, num_threads=1, machine="not measured"),
        lineage={"study": "untrained"},
        files={},
    )
    seal_bundle(staging, draft, output)


def read_rows(data: Path | None, columns: Sequence[str] | None) -> list[dict[str, str]]:
    """Return distinct rows of text, shuffled.

    Args:
        data: A Parquet table; None: the headlines where they are there and have the columns, else a
            simulated log.
        columns: The text columns; None: the table's usual ones.
    """
    if data is not None:
        table, usual = pd.read_parquet(data), ["headline"]
    elif HEADLINES.is_file() and set(columns or ()) <= {"headline"}:
        table, usual = pd.read_parquet(HEADLINES), ["headline"]
    else:
        table, usual = simulate(SimulationConfig(aggregate=True)).log, ["query", "title"]
    names = usual if columns is None else list(columns)
    if missing := sorted(set(names) - set(table.columns)):
        raise SystemExit(
            f"error: {data or 'the simulated log'} has no column {', '.join(missing)}; give --data "
            "TABLE, one that has what the bundle reads"
        )
    texts = table[names].dropna().astype(str).drop_duplicates()
    texts = texts.sample(min(NUM_TEXTS, len(texts)), random_state=0)
    return [dict(zip(names, values, strict=True)) for values in texts.itertuples(index=False)]


def measure(
    ports: dict[str, int], requests: Sequence[bytes], *, repeats: int, seconds: float
) -> tuple[dict[str, dict[int, Load]], float]:
    """Press both sides in turn; return their medians by number of clients, and what it took here.

    Returns:
        The loads by side and number of clients, and the largest share of a core that the clients
        took.
    """
    found: dict[tuple[str, int], list[Load]] = {}
    busiest = 0.0
    for turn in range(repeats):
        for num_clients in CLIENTS:
            # Each side is first in every other round.
            for side in SIDES if turn % 2 == 0 else reversed(SIDES):
                before = time.process_time(), time.perf_counter()
                load = asyncio.run(press(ports[side], requests, num_clients, seconds))
                spent = time.process_time() - before[0]
                busiest = max(busiest, spent / (time.perf_counter() - before[1]))
                found.setdefault((side, num_clients), []).append(load)
                print(
                    f"round {turn + 1}, {num_clients} clients, {side}: "
                    + ", ".join(f"{name} {value}" for name, value in load.rounded().items()),
                    flush=True,
                )
    medians = {side: {n: Load.median(found[side, n]) for n in CLIENTS} for side in SIDES}
    return medians, busiest


def sustained(loads: dict[int, Load], bound_ms: float) -> float:
    """Return the highest rate whose p99 keeps a bound; see above."""
    return max((load.rate for load in loads.values() if load.p99_ms <= bound_ms), default=0.0)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, help="of a winner that reads text alone")
    parser.add_argument("--checkpoint", type=Path, help="the same winner's, uncompressed")
    parser.add_argument("--data", type=Path, help="a Parquet table with the bundle's text columns")
    parser.add_argument("--keep-fraction", type=float, default=0.75, help="of an untrained bundle")
    parser.add_argument("--max-wait-ms", type=float, help="of bundle serve; default: its default")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--quick", action="store_true", help="one round of a second each")
    arguments = parser.parse_args()
    if (arguments.bundle is None) != (arguments.checkpoint is None):
        parser.error("give both --bundle and --checkpoint, of the same winner, or neither")
    if not 0 < arguments.keep_fraction <= 1:
        parser.error(f"--keep-fraction must be in (0, 1], got {arguments.keep_fraction}")
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("the server and its clients need a core each, but this process has one")
    return arguments


def check_winner(bundle: Path, checkpoint: Path) -> Features:
    """Return what a given bundle reads, if both servers can read that and hold the same winner."""
    manifest = read_manifest(bundle)
    check_files(bundle, manifest)
    if read_checkpoint_info(checkpoint).config_hash != manifest.config_hash:
        raise SystemExit(f"error: {bundle} was not made of {checkpoint}, but of another winner")
    features = read_features(bundle / FEATURES_FILE)
    if features.fields or not features.text:
        raise SystemExit(f"error: {bundle} reads {', '.join(features.columns)}, not text alone")
    return features


def main() -> None:
    arguments = parse_arguments()
    bundle = arguments.bundle
    client_core, *_, server_core = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clicktune-benchmark-")))
        if bundle is None:
            rows = read_rows(arguments.data, None)
            bundle = work / "bundle"
            write_untrained_bundle(bundle, rows, arguments.keep_fraction)
        else:
            rows = read_rows(arguments.data, check_winner(bundle, arguments.checkpoint).text)
        ours = [sys.executable, "-m", "search.cli", "bundle", "serve", str(bundle)]
        if arguments.max_wait_ms is not None:
            ours += ["--max-wait-ms", str(arguments.max_wait_ms)]
        plain = [sys.executable, str(Path(__file__).with_name("plain_server.py")), str(bundle)]
        if arguments.checkpoint is not None:
            plain += ["--checkpoint", str(arguments.checkpoint)]
        commands = {"clicktune": [*ours, "--threads", "1"], "fastapi": plain}
        ports = {
            side: stack.enter_context(running(command, server_core, work / f"{side}.log"))
            for side, command in commands.items()
        }
        stack.enter_context(pinned_to(client_core))
        loads, busiest = measure(
            ports,
            write_requests(rows),
            repeats=1 if arguments.quick else arguments.repeats,
            seconds=1.0 if arguments.quick else 4.0,
        )
        compression = read_manifest(bundle).compression
    tell(arguments, loads, busiest, compression)


def tell(
    arguments: argparse.Namespace,
    loads: dict[str, dict[int, Load]],
    busiest: float,
    compression: Any,  # noqa: ANN401 - a manifest's
) -> None:
    """Print the result."""
    clicktune, fastapi = loads["clicktune"], loads["fastapi"]
    bound_ms = BOUND * fastapi[1].p99_ms
    rates = {side: sustained(loads[side], bound_ms) for side in SIDES}
    ratios = {
        "requests_vs_fastapi": rates["clicktune"] / rates["fastapi"],
        **{f"rate_at_{n}_vs_fastapi": clicktune[n].rate / fastapi[n].rate for n in TOLD},
        "p99_at_1_vs_fastapi": clicktune[1].p99_ms / fastapi[1].p99_ms,
    }
    details = {
        "model": "untrained" if arguments.bundle is None else "a winner",
        "compression": compression,
        "bound_ms": round(bound_ms, 2),
        "sustained_rate": {side: round(rate, 1) for side, rate in rates.items()},
        "loads": {side: {n: load.rounded() for n, load in loads[side].items()} for side in SIDES},
        "max_wait_ms": arguments.max_wait_ms,
        # What uvicorn takes by itself where it finds it, for both sides.
        "uvicorn": {
            name: importlib.util.find_spec(name) is not None for name in ("uvloop", "httptools")
        },
        "generator_busy": round(busiest, 3),
    }
    print_result("serving", ratios=ratios, at_least=AT_LEAST, details=details, threads=1)


if __name__ == "__main__":
    main()
