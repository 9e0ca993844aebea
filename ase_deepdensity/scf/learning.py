"""What a calculator learns from each of its converged states, the same on all ranks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ase_deepdensity.codes.gpaw.mpi import broadcast, broadcast_exception
from ase_deepdensity.model import DensityModel
from ase_deepdensity.network.readout import Weights
from ase_deepdensity.scf.bounds import described
from ase_deepdensity.scf.seed import ModelSeed
from ase_deepdensity.state import PAWDensity
from ase_deepdensity.training.learn import Learner, LearnError, Step

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm
    from gpaw.new.ase_interface import ASECalculator

SHARE = 0.03
"""Of the time of the cycles, at most, for learning."""


class Learning:
    """Lets the model of a seed learn what calculations end with.

    Each converged state is asked about as long as learning takes less than :data:`SHARE` of the time of all cycles; the
    first one always is.  The first rank learns and tells the others.

    Parameters
    ----------
    log
        Of the calculator.
    comm
        All its ranks.
    """

    def __init__(self, seed: ModelSeed, log: Callable[..., None], comm: MPIComm):
        self.seed, self.log, self.comm = seed, log, comm
        self.seconds, self.cycles = 0.0, 0.0
        """For learning and for the cycles, on this rank."""
        self._last = 0.0
        self._learners: dict[str, Learner] = {}

    def __repr__(self) -> str:
        if not self._learners:
            return 'Learning(nothing yet)'
        return f'Learning({self.learner!r}, {self.seconds:.1f} s beside {self.cycles:.1f} s of cycles)'

    @property
    def learner(self) -> Learner:
        """Of the model in use.

        Raises
        ------
        LearnError
            There was nothing to learn yet.
        """
        for learner in self._learners.values():
            if learner.model is self.seed.model:
                return learner
        raise LearnError('no calculation has converged yet that something could be learned from')

    @property
    def model(self) -> DensityModel:
        """That has learned, with a record in its card."""
        return self.learner.learned()

    @property
    def steps(self) -> list[Step]:
        """What came of each state."""
        return self.learner.steps

    def save(self, path: str | Path) -> None:
        """Write the model, as :meth:`.Learner.save`; under MPI to be called on all ranks."""
        learner = self.learner
        with broadcast_exception(self.comm):
            if self.comm.rank == 0:
                learner.save(path)

    def recall(self) -> None:
        """Where another model was chosen for other atoms: take up what it has learned before."""
        learner = self._learners.get(self.seed.model.name)
        if learner is not None and learner.beginning is self.seed.model:
            self.seed.update(learner.model)

    def take(self, calc: ASECalculator, seconds: float) -> bool:
        """Learn a converged state after a cycle of so many seconds; whether the seed's model is another one now."""
        self.cycles += seconds
        if not broadcast(not self._last or self.seconds + self._last <= SHARE * self.cycles, 0, self.comm):
            return False
        start = time.perf_counter()
        model = self.seed.model
        line = self._learn(calc)
        self._last = time.perf_counter() - start
        self.seconds += self._last
        self.log(f'\nLearning: {line}; {self._last:.2f} s')
        return self.seed.model is not model

    def _learn(self, calc: ASECalculator) -> str:
        """A line for the log."""
        news: tuple[str, Weights | None, list[Step]] | None = None
        try:
            state = PAWDensity.from_gpaw(calc)
            learner = self._learner()
        except ValueError as error:  # the same on all ranks
            return f'the state is refused: {described(error)}'
        if self.comm.rank == 0:
            news = _news(learner, state)
        line, weights, steps = broadcast(news, 0, self.comm)
        if self.comm.rank > 0:
            learner.take(weights, steps)
        if learner.model is not self.seed.model:
            self.seed.update(learner.model)
        return line

    def _learner(self) -> Learner:
        """Of the seed's model."""
        model = self.seed.model
        for learner in self._learners.values():
            if learner.model is model:
                return learner
        return self._learners.setdefault(model.name, Learner(model))


def _news(learner: Learner, state: PAWDensity) -> tuple[str, Weights | None, list[Step]]:
    """What came of a state: a line, and weights where they have changed."""
    try:
        step = learner.learn(state)
    except Exception as error:  # whatever it is, the calculation has its result
        return f'the state is refused: {described(error)}', None, learner.steps
    return str(step), learner.weights() if step.changed else None, learner.steps
