"""How far a training has come: steps of those wanted, or time of the time given."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np

SOME, RECENT = 5, 20
"""Steps from which on, and of which, the typical time is taken; the first ones compile."""

now = time.monotonic
"""A clock, s."""


class Clock:
    """Tells how much of a training is over, and when to end.

    With ``minutes`` all follows from the time that has passed, whatever slows the machine down: the learning rate falls
    with the part of the time that is over, and steps end early enough to validate and write.  Time is wall time from
    the making of this object: reading data, the first scales and validations count.  Of a killed run the time up to its
    last checkpoint counts; that between two runs does not.

    Parameters
    ----------
    steps
        Wanted, unless there are ``minutes``.
    agree
        What makes a number that depends on the time the same in all processes of a training.
    """

    def __init__(self, steps: int, minutes: float | None, agree: Callable[[float], float] = float):
        self.steps, self._agree = steps, agree
        self.limit = None if minutes is None else 60 * minutes
        self.steps_to_validate = 0.0
        """What a validation costs in units of a step, about: the guess before the first one."""
        self._validation = 0.0
        self._start = now()
        self._times: deque[float] = deque(maxlen=RECENT + 1)

    @property
    def seconds(self) -> float:
        """Since the beginning, earlier runs included."""
        return now() - self._start

    def resume(self, seconds: float) -> None:
        """Count the time that earlier runs took."""
        self._start -= seconds

    def step_taken(self) -> None:
        """Look at the time."""
        self._times.append(now())

    def validated(self, seconds: float) -> None:
        """Expect validating and writing to take so long at the end, or what they have taken at most."""
        self._validation = max(self._validation, seconds)

    @property
    def ending(self) -> float:
        """What validating and writing are expected to take after the last step, s."""
        if self._validation or len(self._times) < SOME:
            return self._validation
        return float(np.median(np.diff(self._times))) * self.steps_to_validate

    def fraction(self, step: int) -> float:
        """0 at the beginning, 1 at the end."""
        if self.limit is None:
            return min(1.0, step / self.steps)
        return self._agree(min(1.0, (self.seconds + self.ending) / self.limit))

    def is_over(self, step: int, validating: bool = False) -> bool:
        """Whether these were all steps; with too little time for anything there is one.

        ``validating``: a validation is due, after which there must be time for another one to go on.
        """
        if self.limit is None:
            return step >= self.steps
        return self._agree(step > 0 and self.seconds + self.ending * (2 if validating else 1) >= self.limit) > 0
