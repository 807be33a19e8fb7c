"""How long running trials have been silent, and which of them for too long."""

import time
from collections.abc import Callable

LONGEST_TICK_S = 5.0
"""What one look may add to a silence: a study that was itself suspended, or busy for minutes, can't
have heard anything, and must not blame its trials."""


class Silences:
    """The time since each running trial's start or last report, as far as somebody listened."""

    def __init__(self, limit_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Watch no trial yet.

        Args:
            limit_s: The longest silence that is no sign of a trial that hangs.
            clock: Returns seconds since any moment.
        """
        self._limit_s = limit_s
        self._clock = clock
        self._last_look = clock()
        self._silent_s: dict[str, float] = {}

    def heard(self, name: str) -> None:
        """Note that a trial has started, or reported."""
        self._silent_s[name] = 0.0

    def ended(self, name: str) -> None:
        """Note that nothing more is expected of a trial."""
        self._silent_s.pop(name, None)

    def overdue(self) -> list[str]:
        """Return the trials that have been silent for too long; for each, it begins anew."""
        now = self._clock()
        tick = min(now - self._last_look, LONGEST_TICK_S)
        self._last_look = now
        for name in self._silent_s:
            self._silent_s[name] += tick
        found = [name for name, seconds in self._silent_s.items() if seconds > self._limit_s]
        for name in found:
            self.heard(name)
        return found
