"""The training itself: repeatable from its seed, and after a kill at any time it goes on along the same curve."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ase_deepdensity.dataset import Dataset
from ase_deepdensity.files import remove_stale_temporaries
from ase_deepdensity.model import DensityModel, ModelError
from ase_deepdensity.network.contract import Output
from ase_deepdensity.network.environment_distance import EnvironmentDistance
from ase_deepdensity.network.system import System
from ase_deepdensity.training.checkpoint import Checkpoint, Files, identify
from ase_deepdensity.training.clock import Clock
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.curve import Row, write_curve
from ase_deepdensity.training.lock import Lock
from ase_deepdensity.training.loss import (
    Score,
    charbonnier,
    matrix_loss,
    matrix_squares,
    mean_spreads,
    score,
    total_matrices,
    total_matrix_error,
)
from ase_deepdensity.training.samples import GridSampler, Sample
from ase_deepdensity.training.start import (
    TrainingError,
    architecture_for,
    fit_familiarity,
    initialize,
    level_for,
    superposition_for,
)

__all__ = ['Trainer', 'TrainingError']

Weights = dict[str, torch.Tensor]


class Trainer:
    """Trains a model on a data set and writes it with its learning curve.

    While it exists, until :meth:`run` has ended, no other training can write to the same model.

    Parameters
    ----------
    dataset
        All snapshots; some are set aside for validation.
    out
        Model file to write; a checkpoint, the curve as CSV and as PNG stand beside it.
    init
        A model to start from (fine-tuning) instead of random weights; its architecture replaces the config's.  Of
        elements that the data lack it keeps what it knows.
    device
        'cpu' or 'cuda'.
    restart
        Forget the checkpoint of an earlier training at ``out``.

    Raises
    ------
    LockedError
        Another training writes to ``out``.
    CheckpointError
        A checkpoint of another training at ``out``, or a damaged one.
    ValueError
        Too few snapshots, spin polarisation, elements that ``init`` does not know.
    """

    def __init__(
        self,
        dataset: Dataset,
        out: str | Path,
        config: TrainingConfig,
        *,
        init: DensityModel | None = None,
        device: str = 'cpu',
        progress: bool = True,
        restart: bool = False,
    ):
        self.clock = Clock(config.steps, config.minutes, config.warmup)
        self.config, self.init = config, init
        self.files = Files(Path(out))
        self.device = torch.device(device)
        self.progress = progress
        self._lock = Lock(self.files.lock)
        try:
            self._prepare(dataset, restart)
        except BaseException:
            self._lock.release()
            raise

    def _prepare(self, dataset: Dataset, restart: bool) -> None:
        """All that comes before the first step."""
        remove_stale_temporaries(self.files.model.parent)
        config, init = self.config, self.init
        self.identity = identify(dataset, config, init)
        saved = None if restart else Checkpoint.load(self.files.checkpoint, self.identity)

        self.level = level_for(dataset, init)
        self.architecture = architecture_for(config, dataset, init)
        self.tables = superposition_for(self.level, dataset, init)
        nvalidation = config.validation if config.validation is not None else max(1, len(dataset) // 10)
        training, validation = dataset.split(nvalidation, seed=config.seed)
        torch.manual_seed(config.seed)
        self.network = self.architecture.build().to(self.device)
        self.sampler = GridSampler(self.architecture.basis)
        self.training = self._samples(training, 'training data')
        self.validation = self._samples(validation, 'validation data', keep_density=True)

        self.start, self.rows, self.best, self.finished = 0, list[Row](), -1, False
        self.best_network, self.best_familiarity = Weights(), Weights()
        self.rate = 0.0
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
        )
        if saved is None:
            initialize(self.network, self.training, self.sampler, self.level, init, config.seed)
            self.average = {k: v.clone() for k, v in self.network.state_dict().items()}
            self.files.checkpoint.unlink(missing_ok=True)
        else:
            self._restore(saved)
        self.clock.steps_to_validate = (len(self.validation) + len(self.training) / 2) / config.batch
        self.spread_s = mean_spreads(self.training, self.network.mean_zii)

    def run(self) -> DensityModel:
        """Train to the end; returns the best model, which is also in its file.

        Raises
        ------
        TrainingError
            The loss is no longer finite, or no validation gave a density that means anything.
        """
        try:
            if self.start:
                self._write(self.best >= 0 and not self._is_written())  # what a kill may have left undone
            if not self.finished:
                self._steps()
        finally:
            self._lock.release()
        if self.best < 0:
            raise TrainingError(
                f'none of the {len(self.rows)} validations gave a density of positive integral; see {self.files.csv}'
            )
        return DensityModel.load(self.files.model)

    def _steps(self) -> None:
        total = self.config.steps if self.config.minutes is None else None
        bar = tqdm(total=total, initial=self.start, unit='step', disable=not self.progress, dynamic_ncols=True)
        recent: list[tuple[float, torch.Tensor]] = []
        step = self.start
        with bar:
            while not self.finished:
                recent.append(self._step(step))
                step += 1
                bar.update()
                self.clock.step_taken()
                due = step % self.config.validate_every == 0
                self.finished = self.clock.is_over(step, due)
                if due or self.finished:
                    row = self._validate(step, recent)
                    recent = []
                    bar.set_postfix_str(
                        f'NMAE {row.nmae_validation:.3f} % ε_D {row.matrix_validation:.4f} (validation)'
                    )

    def _step(self, step: int) -> tuple[float, torch.Tensor]:
        """One optimisation step on some snapshots; returns their NMAE (%) and :func:`.matrix_squares`."""
        config = self.config
        samples = [self.training[self._which(config.batch * step + i)] for i in range(config.batch)]
        rng = np.random.default_rng((config.seed, 1, step))
        self.rate = config.learning_rate * self.clock.rate(step)
        for group in self.optimizer.param_groups:
            group['lr'] = self.rate
        system = System.join([sample.system for sample in samples], self.network.cutoff)
        outputs = self.network(system).split(system)
        loss, nmae = torch.zeros((), device=self.device), 0.0
        for sample, part in zip(samples, outputs, strict=True):
            density_R, target_R, weight = self.sampler(sample, part, config.stride, rng)
            error_R = density_R - target_R
            percent = 100 * weight / sample.electrons / len(samples)
            loss = loss + percent * charbonnier(error_R, config.smoothing)
            nmae += percent * error_R.detach().abs().sum().item()
        squares_sx = self._matrix_squares(samples, outputs)
        loss = loss + config.matrix_weight * matrix_loss(squares_sx, self.spread_s)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise TrainingError(
                f'step {step}: the loss is {loss.item()}, the norm of its gradient {norm.item()}, on '
                f'{", ".join(sample.name for sample in samples)}; lower learning_rate ({config.learning_rate}) or look '
                f'at these snapshots. The last checkpoint is {self.files.checkpoint}'
            )
        self.optimizer.step()
        self._update_average(step)
        return nmae, squares_sx.detach()

    def _matrix_squares(self, samples: list[Sample], outputs: list[Output]) -> torch.Tensor:
        """(nspecies, 3), over some snapshots."""
        return torch.stack(
            [
                matrix_squares(total_matrices(output), sample, self.network.mean_zii)
                for sample, output in zip(samples, outputs, strict=True)
            ]
        ).sum(0)

    def _which(self, count: int) -> int:
        """The snapshot to take after ``count``: each once per epoch, in an order that seed and epoch fix."""
        epoch, i = divmod(count, len(self.training))
        return int(np.random.default_rng((self.config.seed, 0, epoch)).permutation(len(self.training))[i])

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        decay = min(self.config.averaging, step / (step + 20))
        for key, value in self.network.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[key].lerp_(value, 1 - decay)

    def _validate(self, step: int, recent: list[tuple[float, torch.Tensor]]) -> Row:
        """Errors of the averaged weights; writes checkpoint, model and curve."""
        began = self.clock.seconds
        current = {k: v.clone() for k, v in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        reached = self.score(self.validation)
        nmae = float(np.mean([nmae for nmae, _ in recent]))
        matrix_error = total_matrix_error(self.network, [squares_sx for _, squares_sx in recent])
        row = Row(step, nmae, matrix_error, reached.nmae, reached.matrix_error, self.rate)
        better = row.nmae_validation < (self.rows[self.best].nmae_validation if self.best >= 0 else math.inf)
        self.rows.append(row)
        if better:
            self.best = len(self.rows) - 1
            self.best_network = {k: v.clone() for k, v in self.average.items()}
            self.best_familiarity = fit_familiarity(self.network, self.training, self.init).state_dict()
        self.network.load_state_dict(current)
        Checkpoint(
            self.identity, step, self.clock.seconds, self.finished, current, self.average, self.optimizer.state_dict(),
            [row.to_list() for row in self.rows], self.best, self.best_network, self.best_familiarity,
        ).save(self.files.checkpoint)  # fmt: skip
        self._write(better)
        self.clock.validated(self.clock.seconds - began)
        return row

    def score(self, samples: list[Sample]) -> Score:
        """Errors of the weights as they are on samples that have kept their densities, such as :attr:`validation`."""
        return score(self.network, samples, self.sampler)

    def _write(self, model: bool) -> None:
        """The curve and, if it is a new one, the model, from what is in the checkpoint."""
        if model:
            self._model().save(self.files.model)
        write_curve(self.files, self.rows)

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
        return DensityModel(self.architecture, network, self.level, self.tables, familiarity, self._card())

    def _card(self) -> dict[str, Any]:
        row = self.rows[self.best]
        steps = self.config.steps if self.config.minutes is None else row.step
        return {
            'name': self.files.model.stem,
            'training': self.config.to_dict() | {'steps': steps},
            'snapshots': {'training': len(self.training), 'validation': len(self.validation)},
            'atoms per snapshot': sorted({sample.natoms for sample in self.training}),
            'validation': {'step': row.step, 'NMAE of ñ, %': row.nmae_validation, 'ε_D': row.matrix_validation},
        }

    def _samples(self, dataset: Dataset, what: str, *, keep_density: bool = False) -> list[Sample]:
        snapshots = tqdm(dataset, desc=what, disable=not self.progress, leave=False)
        return [
            Sample.from_snapshot(snapshot, file.name, self.network, self.tables, self.device, keep_density=keep_density)
            for file, snapshot in zip(dataset.files, snapshots, strict=True)
        ]

    def _restore(self, saved: Checkpoint) -> None:
        self.network.load_state_dict(saved.network)
        self.optimizer.load_state_dict(saved.optimizer)
        self.average = {k: v.to(self.device) for k, v in saved.average.items()}
        self.start, self.finished = saved.step, saved.finished
        self.rows, self.best = [Row.from_list(row) for row in saved.rows], saved.best
        self.best_network, self.best_familiarity = saved.best_network, saved.best_familiarity
        self.clock.resume(saved.seconds)
