"""A bundle behind HTTP: predictions, health, metrics (imports fastapi, of the extra ``serve``)."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from trainables.bundle.batcher import BatchLimits, MicroBatcher, QueueFullError
from trainables.bundle.features import Features
from trainables.bundle.predictor import Predictor

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def _object(**properties: Any) -> dict[str, Any]:  # noqa: ANN401 - any schema
    """Describe an object that has all of some properties."""
    return {"type": "object", "properties": properties, "required": list(properties)}


_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_MANY = {"type": "array", "items": _PROBABILITY}
_REFUSALS = {
    400: "The body is no JSON, or neither a row nor rows.",
    413: "The body, or its number of rows, is too large.",
    422: "A row lacks a column, or has a value that can't be read; says which.",
    429: "Too many rows wait; try again after Retry-After.",
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The probability of the row, or those of all rows in their order.",
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        _object(probability=_PROBABILITY),
                        _object(probabilities=_MANY),
                    ]
                }
            }
        },
    },
    **{
        status: {
            "description": reason,
            "content": {"application/json": {"schema": _object(error={"type": "string"})}},
        }
        for status, reason in _REFUSALS.items()
    },
}
"""What /predict answers, for its page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingConfig:
    """What a server takes and refuses."""

    max_body_bytes: int = 1_000_000
    """Of a request."""
    max_rows: int = 1_000
    """Of a request."""
    limits: BatchLimits = field(default_factory=BatchLimits)
    """Of batches and the queue."""

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "max_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class _Metrics:
    """What /metrics tells."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "clicktune_requests", "Requests by status.", ["status"], registry=self.registry
        )
        self.rows = Counter("clicktune_rows", "Rows predicted.", registry=self.registry)
        self.seconds = Histogram(
            "clicktune_request_seconds",
            "From a request's last byte to its answer.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch_rows = Histogram(
            "clicktune_batch_rows", "Rows of a run.", buckets=BATCH_ROWS, registry=self.registry
        )
        self.batch_seconds = Histogram(
            "clicktune_batch_seconds", "Of a run.", buckets=SECONDS, registry=self.registry
        )
        self.waiting = Gauge("clicktune_waiting_rows", "Rows that wait.", registry=self.registry)

    def note_batch(self, num_rows: int, seconds: float) -> None:
        """Count a run."""
        self.rows.inc(num_rows)
        self.batch_rows.observe(num_rows)
        self.batch_seconds.observe(seconds)


class _RefusedError(Exception):
    """A request that is answered with a status and a reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def build_app(predictor: Predictor, config: ServingConfig) -> FastAPI:
    """Put a loaded bundle behind HTTP.

    ``POST /predict`` takes one row as a JSON object, or several as ``{"rows": [...]}``; ``GET
    /health`` and ``GET /metrics`` (Prometheus) tell how it does; ``/docs`` shows the API.

    Args:
        predictor: The bundle.
        config: What is taken and refused.
    """
    metrics = _Metrics()
    lineage = predictor.manifest.lineage

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher = MicroBatcher(predictor.predict, config.limits, on_batch=metrics.note_batch)
        metrics.waiting.set_function(lambda: batcher.num_waiting)
        batcher.start()
        app.state.batcher = batcher
        yield
        # What waits is answered before the process ends.
        await batcher.close()

    app = FastAPI(title="ClickTune bundle", version="1", lifespan=lifespan)

    async def answer(request: Request) -> dict[str, Any]:
        rows, is_one = _read_rows(await _read_body(request, config), config)
        try:
            values = await request.app.state.batcher.predict(rows)
        except QueueFullError:
            raise _RefusedError(429, "too many rows wait; try again") from None
        except ValueError as error:
            raise _RefusedError(422, str(error)) from error
        found = [float(value) for value in values]
        return {"probability": found[0]} if is_one else {"probabilities": found}

    @app.post("/predict", openapi_extra=_request_schema(predictor.features), responses=ANSWERS)
    async def predict(request: Request) -> Response:
        """Return the probability that each row is clicked."""
        started = time.perf_counter()
        try:
            content, status = await answer(request), 200
        except _RefusedError as error:
            content, status = {"error": str(error)}, error.status
        metrics.requests.labels(status=status).inc()
        metrics.seconds.observe(time.perf_counter() - started)
        headers = {"Retry-After": "1"} if status == 429 else None
        return JSONResponse(content, status_code=status, headers=headers)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Say that the bundle is loaded, and which one."""
        return {"status": "ok", "study": lineage.get("study"), "trial": lineage.get("trial")}

    @app.get("/metrics")
    async def tell_metrics() -> Response:
        """Return the metrics in Prometheus' text format."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


async def _read_body(request: Request, config: ServingConfig) -> bytes:
    """Read a request's body, as far as it may be."""
    too_large = _RefusedError(413, f"a request may have up to {config.max_body_bytes:,} bytes")
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > config.max_body_bytes:
        raise too_large
    body = bytearray()
    # Its length may not be told, or not be true.
    async for chunk in request.stream():
        body += chunk
        if len(body) > config.max_body_bytes:
            raise too_large
    return bytes(body)


def _read_rows(body: bytes, config: ServingConfig) -> tuple[list[dict[str, Any]], bool]:
    """Return a body's rows, and whether it is a single one."""
    try:
        content = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _RefusedError(400, f"the body is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise _RefusedError(
            400, 'expected a row, as an object, or {"rows": [...]}, got ' + type(content).__name__
        )
    if set(content) != {"rows"}:
        return [content], True
    rows = content["rows"]
    if not isinstance(rows, list) or not rows:
        raise _RefusedError(400, "rows must be a list of at least one row")
    if len(rows) > config.max_rows:
        raise _RefusedError(
            413, f"a request may have up to {config.max_rows:,} rows, got {len(rows):,}"
        )
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise _RefusedError(400, f"row {number}: expected an object, got {row!r:.60}")
    return rows, False


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON; write null for a missing number")


def _request_schema(features: Features) -> dict[str, Any]:
    """Describe what /predict takes, for its page."""
    fields = features.fields
    texts = [{"type": "string"}, {"type": "array", "items": {"type": ["string", "null"]}}]
    kinds: dict[str, dict[str, Any]] = {
        name: {"anyOf": [*texts, {"type": "null"}] if features.may_be_blank(name) else texts}
        for name in features.texts
    }
    kinds |= {field.name: {"type": ["string", "number", "null"]} for field in fields.categorical}
    kinds |= {field.name: {"type": ["number", "null"]} for field in fields.numeric}
    if fields.time is not None:
        kinds[fields.time.name] = {"type": ["string", "number", "null"]}
    row = _object(**kinds)
    schema = {"anyOf": [row, _object(rows={"type": "array", "items": row})]}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
