"""Assemble and run a study: data, ledger, conductor, Ray."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cluster.resources import NO_MEMORY, Capacity, MemoryNeed, local_capacity
from search.budgets import reached_budget
from search.conductor import Conductor
from search.confirmation import missing_repeats
from search.earlier_studies import (
    EARLIER_FACT,
    LIBRARIES_FACT,
    EarlierStudies,
    check_earlier,
    read_earlier,
)
from search.events import OnEvent, StudyEvent, ignore_event
from search.failures import StudyHaltedError
from search.generations import has_waiting_members
from search.ledger import Ledger
from search.machines import cluster_capacity, settle_precision_there, with_gpu_memory
from search.results import StudyResult, StudyStatus, read_result
from search.shape_costs import (
    SHAPE_COSTS_FACT,
    check_limits,
    find_shapes,
    measured_costs,
)
from search.study_changes import check_data, check_folder
from search.study_config import StudyConfig, dump_study, load_study, write_study
from search.study_plan import (
    DataFacts,
    StudyPlan,
    check_layers,
    check_metric,
    count_trials,
    make_plan,
)
from search.task_checks import check_lessons
from search.trial_record import without_replaced
from trainables.augmentation.models import check_models
from trainables.bundle.export import library_versions
from trainables.deepspeed_config import settle_precision
from trainables.encoder import encoder_fingerprint, find_encoder
from trainables.trial_setup import TrialSetup

if TYPE_CHECKING:
    from ray import tune

    from search.room import TrialCosts
    from trainables.data.prepared import PreparedData
    from trainables.data.table import ClickTable


class Study:
    """A search over one space, in a folder of its own.

    Example::

        study = Study.load("headlines.yaml", ["search.trials=12"])
        print(study.plan())
        result = study.run()
        print(result.best)
    """

    def __init__(
        self,
        config: StudyConfig,
        *,
        out: str | Path = "runs",
        trainable: "type[tune.Trainable] | None" = None,
    ) -> None:
        """Name a study; nothing is read or written yet.

        Args:
            config: The study.
            out: Folder that holds a folder for each study.
            trainable: What trains a trial, with the contract of
                :class:`trainables.trial.OneWorkerTrial`; None: that, or
                :class:`trainables.gang.GangTrial` for several workers.
        """
        self.config = config
        self.folder = Path(out) / config.name
        self._trainable = trainable

    @classmethod
    def load(
        cls, path: str | Path, overrides: Sequence[str] = (), *, out: str | Path = "runs"
    ) -> Self:
        """Read a study file; see :func:`search.study_config.load_study`."""
        return cls(load_study(path, overrides), out=out)

    def plan(self, address: str | None = None) -> StudyPlan:
        """Say what the study will do, without starting a trial; memory isn't looked at.

        Args:
            address: Of a cluster to join, whose resources then count; None: this machine.

        Raises:
            ValueError: if a trial doesn't fit, or the encoder is missing.
        """
        check_layers(self.config, find_encoder(self.config.encoder))
        check_models(self.config.augmentations(), self.config.augmentation)
        return self._plan(self._capacity(address), NO_MEMORY)

    def forecast(
        self, table: "ClickTable", address: str | None = None
    ) -> "tuple[StudyPlan, TrialCosts | None]":
        """Say what the study will do and what that takes: some steps of each kind are measured.

        Args:
            table: The study's, from :meth:`check`.
            address: As for :meth:`plan`; the steps run on this machine all the same.

        Returns:
            The plan, and what trials take; None where they run on GPUs and this machine has none.

        Raises:
            ValueError: if the study can't be run as it is, with what to do about it.
        """
        capacity = self._capacity(address)
        # Too few cores need no measurement.
        self._plan(capacity, NO_MEMORY)
        if not self._can_measure(capacity):
            need = self._if_one_fits(self._bound(table, capacity), capacity)
            return self._plan(capacity, need), None
        costs = self._measure(table, capacity)
        need = costs.need(self.config.resources, capacity)
        return self._plan(capacity, need), costs

    def _capacity(self, address: str | None) -> Capacity:
        if address is None:
            return local_capacity()
        return cluster_capacity(address, self.config.resources)

    def _plan(self, capacity: Capacity, need: MemoryNeed | None) -> StudyPlan:
        return make_plan(self.config, self.folder, capacity, self._data_facts(), need)

    def _uses_gpus(self, capacity: Capacity) -> bool:
        return self.config.resources.settle_gpus(capacity).gpus > 0

    def _measure(self, table: "ClickTable", capacity: Capacity) -> "TrialCosts":
        from search.measure_costs import measure_costs

        return measure_costs(self.config, table, use_gpu=self._uses_gpus(capacity))

    def _can_measure(self, capacity: Capacity) -> bool:
        """Whether this machine has what the trials run on."""
        return not self._uses_gpus(capacity) or local_capacity().gpus > 0

    def _data_facts(self) -> DataFacts | None:
        if not Ledger.exists(self.folder):
            return None
        with Ledger.read(self.folder) as ledger:
            facts = ledger.fact("data")
        return DataFacts(**{**facts, "num_rows": tuple(facts["num_rows"])})

    def check(
        self, *, address: str | None = None, resume: bool = False, on_event: OnEvent = ignore_event
    ) -> "ClickTable":
        """Find every mistake of the user's that can be found without Ray; write nothing.

        Args:
            address: As for :meth:`run`.
            resume: As for :meth:`run`.
            on_event: Told what takes time.

        Returns:
            The study's table.

        Raises:
            ValueError: if the study can't be run as it is, with what to do about it.
        """
        from trainables.data.checks import check_table, describe_suspicions
        from trainables.data.table import load_clicks
        from trainables.data.truth import true_probabilities

        if Ledger.exists(self.folder):
            check_folder(self.folder, self.config, resume=resume)
        encoder_folder = find_encoder(self.config.encoder)
        check_layers(self.config, encoder_folder)
        check_models(self.config.augmentations(), self.config.augmentation)
        if not Ledger.exists(self.folder):
            check_earlier(self.config)
        if self.config.search.needs_shape_costs:
            find_shapes(self.config)
        if address is None:
            capacity = local_capacity()
            make_plan(self.config, self.folder, capacity, None, NO_MEMORY)
            if not self._uses_gpus(capacity):
                # A GPU is asked by a worker: this process shall take none of its memory.
                settle_precision(self.config.deepspeed, use_gpu=False)
        else:
            from cluster.connect import check_address

            check_address(address)
        on_event(StudyEvent(kind="note", message=f"preparing {self.config.data.path}"))
        table = load_clicks(self.config.data, self.config.task)
        if table.bad_rows is not None:
            on_event(StudyEvent(kind="warning", message=table.bad_rows.summary()))
        check_metric(self.config, table)
        checks = check_table(table, self.config.data.columns)
        for message in describe_suspicions(checks, self.config.data):
            on_event(StudyEvent(kind="warning", message=message))
        check_lessons(self.config, table)
        if self.config.data.truth is not None:
            # Read again when the search is over, which is late to learn that it doesn't fit.
            true_probabilities(self.config.data, table)
        if Ledger.exists(self.folder):
            # Before it is prepared, so that the folder never holds two tables.
            encoder = encoder_fingerprint(encoder_folder)
            check_data(self.folder, self.config, table=table.fingerprint, encoder=encoder)
        return table

    def run(
        self,
        *,
        address: str | None = None,
        resume: bool = False,
        on_event: OnEvent = ignore_event,
    ) -> StudyResult:
        """Run the study to its end, or until Ctrl-C.

        Every mistake of the user's is found before Ray starts and before a trial does.

        Args:
            address: Of a cluster to join; None: a Ray of its own on this machine.
            resume: Go on with the study that the folder holds; without one, start it.
            on_event: Told of everything that happens, in this thread.

        Raises:
            ValueError: if the study can't be run as it is, with what to do about it.
            ConnectionError: if the cluster can't be joined.
        """
        from trainables.data.problems import BAD_ROWS_FILE
        from trainables.data.store import prepare_shared

        table = self.check(address=address, resume=resume, on_event=on_event)
        need, plan = None, None
        if address is None:
            # Measured once: Ray's own processes, for which this leaves room, would count twice.
            local = local_capacity()
            need = self._need(table, local, on_event)
            plan = self._plan(local, need)
        data = prepare_shared(table, self.config.encoder, self.folder)
        if table.bad_rows is not None:
            table.bad_rows.write(self.folder / BAD_ROWS_FILE)
        self._check_prepared(data)
        setup = self._setup(data, encoder_fingerprint(find_encoder(self.config.encoder)))
        facts = _facts(data, table.fingerprint)
        if not Ledger.exists(self.folder):
            facts |= self._shape_costs(data, on_event) | self._earlier(setup, on_event)
        connected = functools.partial(self._connected, address, table, need, plan, on_event)
        self._run(setup, facts, connected, on_event)
        return read_result(self.folder)

    def _shape_costs(self, data: "PreparedData", on_event: OnEvent) -> dict[str, Any]:
        """Measure what the space's models will cost, where a new study asks for it."""
        if not self.config.search.needs_shape_costs:
            return {}
        shapes = len(find_shapes(self.config))
        message = f"measuring latency and size of {shapes} shapes of model"
        on_event(StudyEvent(kind="note", message=message))
        costs = measured_costs(self.config, data)
        check_limits(self.config, costs)
        return {SHAPE_COSTS_FACT: costs}

    def _earlier(self, setup: TrialSetup, on_event: OnEvent) -> dict[str, Any]:
        """Read what earlier studies know; a resume goes by that, whatever became of them."""
        earlier = read_earlier(
            self.config,
            data_fingerprint=setup.data_fingerprint,
            encoder_fingerprint=setup.encoder_fingerprint,
        )
        for message in earlier.notes:
            on_event(StudyEvent(kind="note", message=message))
        return {EARLIER_FACT: earlier.to_dict()}

    def _need(
        self, table: "ClickTable", capacity: Capacity, on_event: OnEvent
    ) -> MemoryNeed | None:
        """Measure what the trials take, unless a bound shows that memory limits nothing."""
        from search.room import is_ample

        bound = self._bound(table, capacity)
        num_trials = count_trials(self.config)
        if is_ample(self.config.resources, capacity, bound, num_trials=num_trials):
            return bound
        if not self._can_measure(capacity):
            return self._if_one_fits(bound, capacity)
        message = "memory may be short; measuring what trials take"
        on_event(StudyEvent(kind="note", message=message))
        return self._measure(table, capacity).need(self.config.resources, capacity)

    def _if_one_fits(self, bound: MemoryNeed, capacity: Capacity) -> MemoryNeed | None:
        """Return a bound by which a trial fits; of another it isn't known whether one would."""
        try:
            self._plan(capacity, bound)
        except ValueError:
            return None
        return bound

    def _bound(self, table: "ClickTable", capacity: Capacity) -> MemoryNeed:
        """Return a bound of what the trials take, which needs no measurement."""
        from search.room import bound_need

        return bound_need(
            self.config,
            find_encoder(self.config.encoder),
            num_tokens=self.config.encoder.max_tokens,
            num_rows=int((table.split == 0).sum()),
            use_gpu=self._uses_gpus(capacity),
        )

    def _setup(self, data: "PreparedData", encoder: str) -> TrialSetup:
        config = self.config
        folder = Path(config.encoder.name).expanduser()
        # A worker's current folder may be another one.
        name = str(folder.resolve()) if folder.is_dir() else config.encoder.name
        return TrialSetup(
            data_folder=str(data.folder.resolve()),
            data_fingerprint=data.fingerprint,
            encoder_fingerprint=encoder,
            task=config.task,
            encoder=dataclasses.replace(config.encoder, name=name),
            augmentation=config.augmentation.with_absolute_folders(),
            deepspeed=config.deepspeed,
            resources=config.resources,
        )

    def _check_prepared(self, data: "PreparedData") -> None:
        known = self._data_facts()
        if known is not None and known.fingerprint != data.fingerprint:
            raise ValueError(
                f"the data of the study in {self.folder} was prepared by another version of "
                "clicktune, so its trials can't be compared with new ones; resume it with that "
                "version, or start a study of another name"
            )

    def _run(
        self,
        setup: TrialSetup,
        facts: dict[str, Any],
        connected: Callable[[], AbstractContextManager[StudyPlan]],
        on_event: OnEvent,
    ) -> None:
        """Create or open the ledger, run the trials, note how it ended."""
        from trainables.metrics import METRICS

        higher_is_better = METRICS[self.config.search.metric].higher_is_better
        facts = {
            **facts,
            "name": self.config.name,
            "config": dump_study(self.config),
            "status": "running",
            "higher_is_better": higher_is_better,
            "encoder_fingerprint": setup.encoder_fingerprint,
            LIBRARIES_FACT: library_versions(),
            "created_at": time.time(),
        }
        with contextlib.ExitStack() as stack:
            if Ledger.exists(self.folder):
                ledger = stack.enter_context(Ledger.open(self.folder))
                if ledger.fact(LIBRARIES_FACT) != library_versions():
                    # Its trials were trained with several, so none is equal to another study's.
                    ledger.set_fact(LIBRARIES_FACT, None)
                is_over = self._is_over(ledger, on_event)
                # One that ended may have been killed before it noted so.
                plan = None if is_over else stack.enter_context(connected())
                ledger.set_fact("status", _ended_status(ledger) if is_over else "running")
                ledger.set_fact("config", facts["config"])
            else:
                # A cluster that can't be joined, or is too small, leaves no study behind.
                plan = stack.enter_context(connected())
                ledger = stack.enter_context(Ledger.create(self.folder, facts))
            write_study(self.folder, self.config)
            if plan is None:
                return
            setup = dataclasses.replace(
                setup, resources=plan.config.resources, deepspeed=plan.config.deepspeed
            )
            earlier = EarlierStudies.from_dict(ledger.fact(EARLIER_FACT))
            conductor = Conductor(
                self.config,
                setup,
                ledger,
                self.folder.absolute(),
                on_event=on_event,
                earlier=earlier,
            )
            self._run_trials(conductor, setup, ledger, plan.num_concurrent, on_event)

    def _is_over(self, ledger: Ledger, on_event: OnEvent) -> bool:
        """Return whether no trial is left to run, and tell it if a budget is the reason."""
        trials = ledger.all_trials()
        searched = [trial for trial in trials if trial.repeats is None]
        reached = reached_budget(self.config.search, ledger)
        all_ended = all(trial.state != "running" for trial in searched)
        is_searched = all_ended or (reached is not None and reached.stops_running)
        all_confirmed = (
            is_searched
            and all(trial.state != "running" for trial in trials if trial.repeats is not None)
            and not missing_repeats(trials, self.config)
        )
        num_trained = sum(not trial.is_left_out for trial in without_replaced(searched))
        if all_ended and all_confirmed and num_trained >= count_trials(self.config):
            return True
        if reached is None or not (all_confirmed or reached.is_time):
            return False
        if has_waiting_members(ledger, self.config):
            # Killed before it noted that the budget stops them too.
            return False
        text = f"the search has ended: {reached.reason}; with another search.{reached.name}"
        on_event(StudyEvent(kind="note", message=f"{text} it would go on"))
        return True

    @contextlib.contextmanager
    def _connected(
        self,
        address: str | None,
        table: "ClickTable",
        need: MemoryNeed | None,
        plan: StudyPlan | None,
        on_event: OnEvent,
    ) -> Iterator[StudyPlan]:
        """Connect to Ray and work out what runs there.

        Args:
            address: As for :meth:`run`.
            table: The study's.
            need: What the largest trial takes on this machine, if that is known.
            plan: What would run on this machine, made before; None with an address.
            on_event: Told of measuring.
        """
        from cluster.connect import capacity, check_shared_folder, connect

        with connect(address):
            check_shared_folder(self.folder)
            offered = capacity()
            # The process may have been connected to a Ray of several machines.
            if plan is not None and len(offered.nodes) == 1:
                # Ray's own number leaves out what other processes had taken by then.
                here = plan.capacity
                offered = dataclasses.replace(
                    offered, memory=here.memory, gpu_memory=here.gpu_memory
                )
            else:
                offered = with_gpu_memory(offered, self.config.resources)
                need = self._need(table, offered, on_event)
            plan = self._plan(offered, need)
            # Before a study is there: a precision that the machines lack leaves none behind.
            deepspeed = settle_precision_there(plan.config)
            config = dataclasses.replace(plan.config, deepspeed=deepspeed)
            yield dataclasses.replace(plan, config=config)

    def _run_trials(
        self,
        conductor: Conductor,
        setup: TrialSetup,
        ledger: Ledger,
        num_concurrent: int,
        on_event: OnEvent,
    ) -> None:
        """Run the trials and note how the study ended, whatever ends it."""
        from search.tune_run import run_trials

        trainable = self._trainable or _trainable_for(self.config.resources.workers)
        status: StudyStatus = "interrupted"
        try:
            run_trials(
                conductor,
                setup,
                trainable,
                self.folder,
                num_concurrent=num_concurrent,
                max_epoch_minutes=self.config.search.max_epoch_minutes,
            )
            status = _status(conductor, ledger)
        except KeyboardInterrupt:
            # Tune ends cleanly on the first Ctrl-C; this is one before it, or a second one.
            on_event(StudyEvent(kind="note", message="interrupted"))
        finally:
            # What halted the study may be that the ledger can't be written.
            with contextlib.suppress(StudyHaltedError):
                ledger.set_fact("status", status)


def _facts(data: "PreparedData", table_fingerprint: str) -> dict[str, Any]:
    return {
        "table_fingerprint": table_fingerprint,
        "data": {
            "fingerprint": data.fingerprint,
            "num_rows": list(data.num_rows),
            "base_rate": data.base_rate,
        },
    }


def _status(conductor: Conductor, ledger: Ledger) -> StudyStatus:
    if not conductor.is_finished and not conductor.is_hopeless:
        return "interrupted"
    return "failed" if conductor.is_hopeless else _ended_status(ledger)


def _ended_status(ledger: Ledger) -> StudyStatus:
    """Return how a study ended in which no trial is left to run."""
    ended_well = any(trial.state in ("completed", "stopped") for trial in ledger.trials())
    return "completed" if ended_well else "failed"


def _trainable_for(workers: int) -> "type[tune.Trainable]":
    if workers == 1:
        from trainables.trial import OneWorkerTrial

        return OneWorkerTrial
    from trainables.gang import GangTrial

    return GangTrial
