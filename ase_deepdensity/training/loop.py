"""The training itself: repeatable from its seed, and after a kill at any time it goes on along the same curve."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.dataset import Dataset
from ase_deepdensity.files import remove_stale_temporaries
from ase_deepdensity.model import DensityModel, ModelError, with_rounded_weights
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.environment_distance import EnvironmentDistance
from ase_deepdensity.training.batch import Batches
from ase_deepdensity.training.checkpoint import Checkpoint, Files, identify
from ase_deepdensity.training.clock import Clock
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.curve import Row, write_curve
from ase_deepdensity.training.data import Cache, TrainingData
from ase_deepdensity.training.descent import Descent
from ase_deepdensity.training.lock import Lock
from ase_deepdensity.training.loss import mean_spreads, total_matrix_error
from ase_deepdensity.training.ranks import ALONE, Ranks, lost_ranks
from ase_deepdensity.training.start import (
    TrainingError,
    architecture_for,
    atom_types_for,
    fit_familiarity,
    initialize,
    level_for,
    split,
    trained_weights,
)
from ase_deepdensity.training.step import Losses, Objective
from ase_deepdensity.training.tensorboard import TensorBoard
from ase_deepdensity.training.validation import Score, score

__all__ = ['Trainer', 'TrainingError']


class Trainer:
    """Trains a model on a data set and writes it with its learning curve.

    While it exists, until :meth:`run` has ended, no other training can write to the same model.

    Parameters
    ----------
    dataset
        All snapshots; some are set aside for validation.
    validate_on
        Other snapshots to validate on, instead of some of ``dataset``.
    out
        Model file to write; a checkpoint, the curve as CSV and as PNG stand beside it.
    init
        A model to start from (fine-tuning) instead of random weights; its architecture replaces the config's.  Of
        elements that the data lack it keeps what it knows.
    device
        'cpu' or 'cuda'.
    restart
        Forget the checkpoint of an earlier training at ``out``.
    cache
        Bytes of memory for densities; those that do not fit are read again for each step.  Default: a quarter of the
        machine's memory.
    ranks
        The processes that train together: all make the same trainer, only rank 0 writes.  They may be others when
        a training goes on.
    tensorboard
        A folder for what TensorBoard shows of the learning curve.

    Raises
    ------
    LockedError
        Another training writes to ``out``.
    CheckpointError
        A checkpoint of another training at ``out``, or a damaged one.
    MissingPackageError
        TensorBoard is asked for and not installed.
    ValueError
        Too few snapshots, spin polarisation where the network has none, elements that ``init`` can not take; more
        ranks than snapshots in a step.
    ConnectionError
        Another rank has ended.
    """

    def __init__(
        self,
        dataset: Dataset,
        out: str | Path,
        config: TrainingConfig,
        *,
        init: DensityModel | None = None,
        validate_on: Dataset | None = None,
        device: str = 'cpu',
        progress: bool = True,
        restart: bool = False,
        cache: float | None = None,
        ranks: Ranks = ALONE,
        tensorboard: str | Path | None = None,
    ):
        if config.batch < ranks.size:
            raise TrainingError(
                f'batch: {config.batch} snapshots in a step are too few for {ranks.size} processes: set batch to '
                f'{ranks.size} or a multiple of it'
            )
        self.board = TensorBoard(tensorboard) if tensorboard is not None and ranks.is_first else None
        self.clock = Clock(config.steps, config.minutes, ranks.number_of_first)
        self.config, self.init, self.ranks = config, init, ranks
        self.files = Files(Path(out))
        self.device = torch.device(device)
        self.progress = progress and ranks.is_first
        self._lock: Lock | None = None
        ranks.first(self._take_lock)
        try:
            self._prepare(dataset, validate_on, restart, Cache(cache, ranks.size_here))
        except BaseException:
            self._let_go()
            raise

    def _take_lock(self) -> None:
        self._lock = Lock(self.files.lock)

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _prepare(self, dataset: Dataset, validate_on: Dataset | None, restart: bool, cache: Cache) -> None:
        """All that comes before the first step."""
        config, init, ranks = self.config, self.init, self.ranks
        parts = split(dataset, validate_on, config)
        if validate_on is not None:
            dataset = Dataset([*dataset.files, *validate_on.files])
        ranks.first(lambda: remove_stale_temporaries(self.files.model.parent))
        self.identity = identify(dataset, config, init, validate_on)
        saved = ranks.first(lambda: None if restart else Checkpoint.load(self.files.checkpoint, self.identity))

        self.level = level_for(dataset, init)
        self.architecture = architecture_for(config, dataset, init)
        self.atom_types = atom_types_for(self.level, dataset, init)
        self.tables = {number: atom_type.nt for number, atom_type in self.atom_types.items()}
        self.charge = dataset.charge
        torch.manual_seed(config.seed)
        self.network = self.architecture.build().to(self.device)
        self.network.set_elements(self.atom_types)
        self.evaluate = DensityEvaluator(self.architecture.basis)
        self.training, self.validation = self._read(parts, cache)
        self.batches = Batches(self.training, config, self.network.cutoff, ranks)

        self.start, self.rows, self.best, self.finished = 0, list[Row](), -1, False
        self.best_network, self.best_familiarity = dict[str, torch.Tensor](), dict[str, torch.Tensor]()
        if saved is None:
            ranks.first(
                lambda: initialize(self.network, self.training, self.evaluate, self.atom_types, init, config.seed)
            )
            ranks.same_state(self.network)
        trained = trained_weights(self.network, config, dataset, init)
        self.descent = Descent(self.network, config, self.clock, trained, ranks)
        if saved is None:
            ranks.first(lambda: self.files.checkpoint.unlink(missing_ok=True))
        else:
            self._restore(saved)
        self.clock.steps_to_validate = (len(self.validation) + len(self.training) / 2) / config.batch
        matrices = (sample.D_zsaii for sample in self.training)
        mean_zii = {Z: mean_ii.cpu() for Z, mean_ii in self.network.mean_zii.items()}
        spread_zs = mean_spreads(matrices, mean_zii, self.network.species)
        self.objective = Objective(self.network, self.evaluate, spread_zs.to(self.device), config, ranks)

    def _read(self, parts: tuple[Dataset, Dataset], cache: Cache) -> tuple[TrainingData, TrainingData]:
        """What to train on, and what to validate on."""
        training, validation = (TrainingData(part, self.network, self.atom_types, cache) for part in parts)
        for data, what in (training, 'training data'), (validation, 'validation data'):
            for t in tqdm(range(len(data)), desc=what, disable=not self.progress, leave=False):
                data[t]
        return training, validation

    def run(self) -> DensityModel:
        """Train to the end; returns the best model, which is also in its file.

        Raises
        ------
        TrainingError
            The loss is no longer finite, or no validation gave a density that means anything.
        """
        try:
            if self.start:
                self.ranks.first(self._complete)
            if not self.finished:
                with lost_ranks():
                    self._steps()
        finally:
            self._let_go()
        if self.best < 0:
            raise TrainingError(
                f'none of the {len(self.rows)} validations gave a density of positive integral; see {self.files.csv}'
            )
        return DensityModel.load(self.files.model) if self.ranks.is_first else self._model()

    def _steps(self) -> None:
        total = self.config.steps if self.config.minutes is None else None
        bar = tqdm(total=total, initial=self.start, unit='step', disable=not self.progress, dynamic_ncols=True)
        recent: list[Losses] = []
        step = self.start
        with bar:
            while not self.finished:
                rate = self.descent.rate
                recent.append(self._step(step))
                step += 1
                bar.update()
                self.clock.step_taken()
                due = step % self.config.validate_every == 0
                self.finished = self.clock.is_over(step, due)
                if due or self.finished:
                    row = self._validate(step, rate, recent)
                    recent = []
                    bar.set_postfix_str(
                        f'NMAE {row.nmae_validation:.3f} % ε_D {row.matrix_validation:.4f} (validation)'
                    )

    def _step(self, step: int) -> Losses:
        """One optimisation step on some snapshots."""
        batch = self.batches[step].to(self.device)
        losses: Losses = self.objective(batch)
        norm = self.descent.differentiate(losses.total)
        if not (torch.isfinite(losses.total) and torch.isfinite(norm)):
            raise TrainingError(
                f'step {step}: the loss is {losses.total.item()}, the norm of its gradient {norm.item()}, on '
                f'{", ".join(batch.names)}; lower learning_rate ({self.config.learning_rate}) or look '
                f'at these snapshots. The last checkpoint is {self.files.checkpoint}'
            )
        self.descent.advance()
        return losses.detached()

    def _validate(self, step: int, rate: float, recent: list[Losses]) -> Row:
        """Errors of the averaged weights; writes checkpoint, model and curve."""
        began = self.clock.seconds
        averaged = self.descent.averaged_network
        reached = self.score(averaged, self.validation)
        nmae = float(np.mean([losses.nmae.item() for losses in recent]))
        matrix_error = total_matrix_error(losses.squares_zsx for losses in recent)
        row = Row(step, nmae, matrix_error, reached.nmae, reached.matrix_error, rate, reached.magnetisation_nmae)
        better = row.nmae_validation < (self.rows[self.best].nmae_validation if self.best >= 0 else math.inf)
        self.rows.append(row)
        if better:
            self.best = len(self.rows) - 1
            self.best_network = with_rounded_weights(averaged).state_dict()
            self.best_familiarity = self.ranks.first(
                lambda: fit_familiarity(averaged, self.training, self.init, self.config).state_dict()
            )
        self.ranks.first(lambda: self._save(step, better))
        self.clock.validated(self.clock.seconds - began)
        return row

    def _save(self, step: int, better: bool) -> None:
        """Write the checkpoint, then what follows from it."""
        Checkpoint(
            self.identity, step, self.clock.seconds, self.finished, self.descent.state_dict(),
            [row.to_list() for row in self.rows], self.best, self.best_network, self.best_familiarity,
        ).save(self.files.checkpoint)  # fmt: skip
        self._write(better)

    def score(self, network: DensityNetwork, data: TrainingData) -> Score:
        """Errors of the weights of a network on data such as :attr:`validation`."""
        return score(network, data, self.evaluate, self.device, self.ranks)

    def _complete(self) -> None:
        """Write what a kill may have left undone."""
        self._write(self.best >= 0 and not self._is_written())

    def _write(self, model: bool) -> None:
        """The curve and, if it is a new one, the model, from what is in the checkpoint."""
        if model:
            self._model().save(self.files.model)
        write_curve(self.files, self.rows)
        if self.board is not None:
            self.board.write(self.rows)

    def _is_written(self) -> bool:
        """Whether the model file is that of the best row; what has been added to its card since then may stay."""
        try:
            card = DensityModel.load(self.files.model).card
        except ModelError:
            return False
        return card | json.loads(json.dumps(self._card())) == card

    def _model(self) -> DensityModel:
        network = self.architecture.build().to(self.device)
        network.load_state_dict(self.best_network)
        familiarity = EnvironmentDistance(**self.best_familiarity)
        return DensityModel(
            self.architecture, network, self.level, self.atom_types, familiarity, self._card(), self.charge
        )

    def _card(self) -> dict[str, Any]:
        row = self.rows[self.best]
        steps = self.config.steps if self.config.minutes is None else row.step
        reached = {'step': row.step, 'NMAE of ñ, %': row.nmae_validation, 'ε_D': row.matrix_validation}
        if row.magnetisation_validation:
            reached['NMAE of m, %'] = row.magnetisation_validation
        return {
            'name': self.files.model.stem,
            'training': self.config.to_dict() | {'steps': steps},
            'snapshots': {'training': len(self.training), 'validation': len(self.validation)},
            'atoms per snapshot': sorted({sample.system.natoms for sample in self.training}),
            'validation': reached,
        }

    def _restore(self, saved: Checkpoint) -> None:
        self.descent.load_state_dict(saved.descent)
        self.start, self.finished = saved.step, saved.finished
        self.rows, self.best = [Row.from_list(row) for row in saved.rows], saved.best
        self.best_network, self.best_familiarity = saved.best_network, saved.best_familiarity
        self.clock.resume(saved.seconds)
