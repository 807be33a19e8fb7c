"""A bundle as a Ray Serve application, for clusters (imports ray.serve: the extra ``ray-serve``).

From a shell on one of the cluster's machines, with Serve's own command::

    serve run trainables.bundle.ray_serve:build_application \
        bundle=/shared/runs/shop/best num_replicas=2 threads=1

and from Python::

    from ray import serve
    from trainables.bundle.ray_serve import build_application

    serve.run(build_application({"bundle": "/shared/runs/shop/best", "num_replicas": 2}))

A Serve config file names ``import_path: trainables.bundle.ray_serve:build_application`` and gives
the same arguments under ``args``; under ``deployments`` it may set more options of the deployment
``bundle``, such as autoscaling. Every machine needs clicktune[ray-serve], and must see the bundle
at the same path.

Serve's proxies listen on 127.0.0.1 unless they are told otherwise (``host`` of its HTTP options, or
RAY_SERVE_DEFAULT_HTTP_HOST; its HAProxy mode listens everywhere): on each machine with a replica
only that machine's own processes reach them. Neither Serve nor the application asks who calls, nor
encrypts. With ``host: 0.0.0.0`` whoever reaches the machine may predict, so put a gateway in front
that does both. The cluster's dashboard, through which ``serve deploy`` runs code, mustn't be
reachable at all.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from spaces.spelling import nearest
from trainables.bundle.batcher import BatchLimits
from trainables.bundle.manifest import check_files, hash_predictor, read_manifest
from trainables.bundle.predictor import Predictor

if TYPE_CHECKING:
    from fastapi import FastAPI
    from ray.serve import Application

DEFAULTS = BatchLimits()


@dataclass(frozen=True, kw_only=True, slots=True)
class ApplicationConfig:
    """The arguments of the application."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)

    bundle: Path
    """The bundle's folder, or a link to it, which every machine of the cluster sees. The link is
    followed once, so that all replicas serve the same bundle until the application is run again."""
    num_replicas: int = 1
    """Processes that predict, spread over the cluster."""
    threads: int = 1
    """Threads of each replica's graph, and the CPUs that Ray reserves for it."""
    max_batch_rows: int = DEFAULTS.max_batch_rows
    """See :class:`trainables.bundle.batcher.BatchLimits`; of each replica, as the next two."""
    max_wait_ms: float = DEFAULTS.max_wait_ms
    """How long a first request waits for others."""
    max_queue_rows: int = DEFAULTS.max_queue_rows
    """Rows that may wait; beyond, a request gets status 429."""

    def __post_init__(self) -> None:
        for name in ("num_replicas", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        self.limits()

    def limits(self) -> BatchLimits:
        """Return what a replica predicts together and lets wait."""
        return BatchLimits(
            max_batch_rows=self.max_batch_rows,
            max_wait_ms=self.max_wait_ms,
            max_queue_rows=self.max_queue_rows,
        )


class BundleReplica:
    """What each replica holds: the loaded bundle, and the same HTTP as ``clicktune bundle serve``.

    Each counts for itself: ``/metrics`` tells those of the replica that happens to answer. Ray's
    own metrics have all of them (``ray_serve_*``).
    """

    def __init__(self, folder: str, predictor_hash: str, config: ApplicationConfig) -> None:
        """Load the bundle.

        Args:
            folder: The bundle, as this machine sees it.
            predictor_hash: Of the bundle that the application was built for; see
                :func:`trainables.bundle.manifest.hash_predictor`.
            config: The application's arguments.

        Raises:
            ValueError: if it can't be loaded, or is another bundle than the application's.
        """
        self._predictor = Predictor(folder, num_threads=config.threads)
        self._limits = config.limits()
        if hash_predictor(Path(folder)) != predictor_hash:
            raise ValueError(
                f"{folder} holds another bundle here than where and when the application was "
                "built; share one folder among the machines, and run the application again after "
                "a bundle was replaced"
            )

    def __serve_build_asgi_app__(self) -> "FastAPI":
        """Return what answers; Serve runs its lifespan, and so the batcher, in the replica."""
        from trainables.bundle.serving import ServingConfig, build_app

        return build_app(self._predictor, ServingConfig(limits=self._limits))


def build_application(arguments: Mapping[str, Any]) -> "Application":
    """Make the application, without starting anything; the bundle is checked first.

    Args:
        arguments: The fields of :class:`ApplicationConfig` by name, numbers as such or as text.

    Returns:
        What ``ray.serve.run`` takes.

    Raises:
        ValueError: naming the argument that is unknown, missing or wrong, or saying why the folder
            is no bundle.
        ModuleNotFoundError: if the extra ``ray-serve`` isn't installed.
    """
    config = read_arguments(arguments)
    folder = config.bundle.expanduser().resolve()
    check_files(folder, read_manifest(folder))
    try:
        from ray import serve
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"a Ray Serve application needs {error.name}; pip install 'clicktune[ray-serve]'",
            name=error.name,
        ) from error
    deployment = serve.deployment(
        name="bundle",
        num_replicas=config.num_replicas,
        ray_actor_options={"num_cpus": config.threads},
        # Five by default, which make no batch. So many that a replica's own queue is full first.
        max_ongoing_requests=config.max_queue_rows + 2 * config.max_batch_rows,
        # While all replicas are full, or none has started, each proxy holds no more than these.
        max_queued_requests=config.max_queue_rows,
        backpressure_config={"status_code": 429, "retry_after_s": 1},
        logging_config={"enable_access_log": False},
    )(serve.ingress()(BundleReplica))
    return deployment.bind(str(folder), hash_predictor(folder), config)


def read_arguments(arguments: Mapping[str, Any]) -> ApplicationConfig:
    """Check the application's arguments, without a look at the bundle.

    Raises:
        ValueError: naming the argument that is unknown, missing or wrong.
    """
    known = [field.name for field in dataclasses.fields(ApplicationConfig)]
    for name in arguments:
        if name not in known:
            raise ValueError(f"unknown argument {name!r}{nearest(str(name), known)}")
    if "bundle" not in arguments:
        raise ValueError("the argument bundle is missing; give bundle=FOLDER, a bundle's folder")
    try:
        return TypeAdapter(ApplicationConfig).validate_python(dict(arguments))
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        if detail["type"] == "value_error":
            raise ValueError(str(detail["ctx"]["error"])) from error
        name = ".".join(map(str, detail["loc"]))
        raise ValueError(f"{name}: {detail['msg']}, got {detail['input']!r}") from error
