"""Generations of a population: who waits for the others, and whose copies take whose place."""

import dataclasses
import random
from pathlib import Path

from search.algorithms import derive_seed
from search.events import OnEvent, StudyEvent
from search.failures import StudyHaltedError, is_disk_full
from search.formatting import trial_name
from search.ledger import GENERATION_FACT, Ledger, Successor
from search.retention import is_whole
from search.schedulers.pbt import PopulationBased, choose_exploits
from search.study_config import StudyConfig
from search.trial_record import Continuation, StoredCheckpoint, TrialRecord
from spaces.perturbation import perturb
from spaces.trial_config import TrialConfig
from trainables.checkpoint import checkpoint_folder, hand_over
from trainables.metrics import METRICS
from trainables.trial_setup import CheckpointRecord, TrialSetup


def rungs_of(config: StudyConfig) -> tuple[int, ...]:
    """Return after which epochs members wait for each other; none without a population."""
    search = config.search
    if search.scheduler != "pbt":
        return ()
    return PopulationBased(
        perturbation_epochs=search.perturbation_epochs, max_epochs=search.epochs
    ).rungs


def has_waiting_members(ledger: Ledger, config: StudyConfig) -> bool:
    """Return whether a ledger has members that wait for the others of their generation."""
    rungs, decided = rungs_of(config), ledger.fact(GENERATION_FACT, 0)
    return any(
        trial.state == "running" and trial.last_epoch > decided and trial.last_epoch in rungs
        for trial in ledger.trials()
    )


class Generations:
    """Lets the members of a population wait at its rungs, and replaces the worst of a generation.

    What is decided of a generation depends on the scores of the members that wait, and on the
    study's seed, not on the order in which they came; and it is in the ledger as a whole or not at
    all. A study without a population has no rungs, and nothing here ever happens.
    """

    def __init__(
        self,
        config: StudyConfig,
        setup: TrialSetup,
        ledger: Ledger,
        checkpoints: Path,
        on_event: OnEvent,
    ) -> None:
        """Know no member yet.

        Args:
            config: The study.
            setup: What its trials share.
            ledger: Knows which generations were decided before.
            checkpoints: Folder that holds a folder for each trial.
            on_event: Told who continues whom.
        """
        self._config = config
        self._setup = setup
        self._ledger = ledger
        self._checkpoints = checkpoints
        self._on_event = on_event
        self._rungs = frozenset(rungs_of(config))
        self._decided: int = ledger.fact(GENERATION_FACT, 0)
        # A dict for its order: that of their reports.
        self._waiting: dict[int, int] = {}

    @property
    def waiting(self) -> tuple[int, ...]:
        """The members that wait, in the order of their reports."""
        return tuple(self._waiting)

    def pause(self, number: int, epoch: int) -> bool:
        """Let a member wait if it has come to a rung that is not decided yet; return whether."""
        if epoch not in self._rungs or epoch <= self._decided:
            return False
        self._waiting[number] = epoch
        return True

    def release(self) -> None:
        """Let nobody wait any more."""
        self._waiting.clear()

    def decide(self, next_number: int, *, replaces: bool) -> tuple[Successor, ...]:
        """Decide about a generation, all members of which wait, and note it; nobody waits then.

        Args:
            next_number: Of the first new trial.
            replaces: Whether members may be replaced at all.

        Returns:
            The new trials that take others' places.

        Raises:
            StudyHaltedError: if the disk is full.
        """
        (epoch,) = set(self._waiting.values())
        members = {number: self._ledger.trial(number) for number in self._waiting}
        successors: list[Successor] = []
        for exploit in choose_exploits(self._scores(members), self._config.search.exploit_fraction):
            if not replaces:
                break
            rng = random.Random(derive_seed(self._config.search.seed, epoch, exploit.loser))
            number = next_number + len(successors)
            donors = [members[donor] for donor in rng.sample(exploit.donors, len(exploit.donors))]
            if new := self._succeed(number, exploit.loser, donors, epoch, rng):
                successors.append(new)
        self._ledger.add_generation(epoch, successors)
        self._decided = epoch
        self.release()
        for new in successors:
            self._tell(new)
        return tuple(successors)

    def _scores(self, members: dict[int, TrialRecord]) -> dict[int, float]:
        metric = METRICS[self._config.search.metric]
        sign = 1.0 if metric.higher_is_better else -1.0
        return {
            number: sign * trial.reports[-1].metrics[metric.name]
            for number, trial in members.items()
        }

    def _succeed(
        self, number: int, loser: int, donors: list[TrialRecord], epoch: int, rng: random.Random
    ) -> Successor | None:
        """Copy the first donor whose checkpoint is whole; without one the loser stays."""
        for donor in donors:
            kept = donor.checkpoints[-1] if donor.checkpoints else None
            if kept is None or kept.epoch != epoch or not is_whole(kept):
                continue
            point = perturb(self._config.space, donor.params, rng)
            trial = dataclasses.replace(donor.config, **point)  # type: ignore[arg-type]
            config_hash = self._setup.config_hash(trial)
            folder = checkpoint_folder(self._checkpoints / trial_name(number), epoch)
            try:
                checkpoint = _hand_over(kept, folder, trial, config_hash)
            except (ValueError, FileNotFoundError):
                # Damaged in a way that its size doesn't show.
                continue
            return Successor(
                number=number,
                params=point,
                config=trial,
                config_hash=config_hash,
                continues=Continuation(number=donor.number, epoch=epoch, replaces=loser),
                checkpoint=checkpoint,
            )
        text = (
            f"trial {loser} is among the worst after epoch {epoch}, but goes on: no better one's "
            "checkpoint is whole"
        )
        self._on_event(StudyEvent(kind="warning", message=text))
        return None

    def _tell(self, new: Successor) -> None:
        begun = new.continues
        text = (
            f"trial {new.number} continues trial {begun.number} from epoch {begun.epoch} in place "
            f"of trial {begun.replaces}"
        )
        self._on_event(StudyEvent(kind="note", message=text))


def _hand_over(
    donor: StoredCheckpoint, folder: Path, trial: TrialConfig, config_hash: str
) -> CheckpointRecord:
    try:
        return hand_over(donor.path, folder, trial, config_hash)
    except OSError as error:
        if is_disk_full(error):
            raise StudyHaltedError(
                f"the disk is full: {folder} can't be written ({error}); nothing is lost: free "
                "some room, and go on with --resume"
            ) from error
        raise
