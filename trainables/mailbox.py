"""What a worker group is told and what it answers, and the actor that both pass through."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

WATCH_INTERVAL_S = 1.0
"""How long after one sign of life the group's director is asked for the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One thing that all workers of a group have to do."""

    kind: Literal["start", "continue", "end"]
    """start: drop the trial before, train the first epoch of the next; continue: train one more
    epoch; end: leave."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """start: the trial's configuration."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened to one worker of a group."""

    kind: Literal["ready", "reported", "failed"]
    """ready: it takes commands; reported: the trial has finished an epoch; failed: it raised."""
    rank: int
    """The worker's number."""
    trial: int = 0
    """How many trials the group had started, this one included."""
    content: Mapping[str, Any] = field(default_factory=dict)
    """ready: actor, pid, places (its placement group); reported: result; failed: trace."""


class Mailbox:
    """Hands every command to every worker in the same order, and events to who directs them.

    A Ray actor whose methods wait without blocking each other. It is detached, and so outlives a
    director that is killed: Ray Train would then leave the workers' places on the machines taken
    (its own cleaner needs the dashboard).
    """

    def __init__(self) -> None:
        self._commands: list[Command] = []
        self._told = asyncio.Condition()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._places: Any = None

    async def tell(self, command: Command) -> None:
        """Append a command for all workers."""
        async with self._told:
            self._commands.append(command)
            self._told.notify_all()

    async def command(self, index: int) -> Command:
        """Return a command by its number, from 0, as soon as there is one."""
        async with self._told:
            await self._told.wait_for(lambda: len(self._commands) > index)
            return self._commands[index]

    async def post(self, event: Event) -> None:
        """Leave an event for :meth:`next_event`."""
        self._places = event.content.get("places", self._places)
        await self._events.put(event)

    async def next_event(self, timeout_s: float) -> Event | None:
        """Return the oldest event that wasn't returned yet; None if there is none in time."""
        try:
            return await asyncio.wait_for(self._events.get(), timeout_s)
        except TimeoutError:
            return None

    async def watch(self, director: Any) -> None:  # noqa: ANN401 - Ray ships no types
        """Give the workers' places back and end when the director's process has died."""
        import ray

        try:
            while True:
                # Answered when it has time, which may be an epoch from now; or never.
                await director.__ray_ready__.remote()
                await asyncio.sleep(WATCH_INTERVAL_S)
        except ray.exceptions.RayActorError:
            if self._places is not None:
                ray.util.remove_placement_group(self._places)
            ray.actor.exit_actor()
