"""The training itself: repeatable from its seed, and after a kill at any time it goes on along the same curve."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ase_deepdensity.dataset import Dataset
from ase_deepdensity.evaluate.superposition import RadialTable
from ase_deepdensity.model import Architecture, DensityModel
from ase_deepdensity.network.contract import Blocks, Output
from ase_deepdensity.network.familiarity import Familiarity
from ase_deepdensity.network.graph import join
from ase_deepdensity.reference.codes import code
from ase_deepdensity.training.checkpoint import Checkpoint, Files, identify
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.curve import Row, write_curve
from ase_deepdensity.training.least_squares import fit_coefficients
from ase_deepdensity.training.loss import charbonnier, matrix_squares, relative_matrix_errors
from ase_deepdensity.training.samples import GridSampler, Sample

TIMED_STEPS = 10, 40
"""Steps between which the speed is measured when a training is given minutes."""
UNKNOWN = 10**9
"""Number of steps before the speed has been measured."""
SCALE_ATOMS = 100
"""Atoms of each element from which the scales of inputs and outputs are taken, as far as there are so many."""


class TrainingError(ValueError):
    """A training that cannot go on; what was reached is kept."""


@dataclass
class Score:
    """Errors averaged over snapshots."""

    nmae: float
    matrix_error: float


class Trainer:
    """Trains a model on a data set and writes it with its learning curve.

    Parameters
    ----------
    dataset
        All snapshots; some are set aside for validation.
    out
        Model file to write; a checkpoint, the curve as CSV and as PNG stand beside it.
    init
        A model to start from (fine-tuning) instead of random weights; its architecture replaces the config's.
    device
        'cpu' or 'cuda'.

    Raises
    ------
    ValueError
        Too few snapshots, spin polarisation, or a checkpoint of another training at ``out``.
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
    ):
        self.config = config
        self.files = Files(Path(out))
        self.device = torch.device(device)
        self.progress = progress
        self.identity = identify(dataset, config, init)
        saved = Checkpoint.load(self.files.checkpoint, self.identity)

        self.level = dataset.level.general()
        self.tables = _superposition(dataset)
        self.architecture = init.architecture if init else _architecture(config, dataset)
        nvalidation = config.validation if config.validation is not None else max(1, len(dataset) // 10)
        training, validation = dataset.split(nvalidation, seed=config.seed)
        torch.manual_seed(config.seed)
        self.network = self.architecture.build().to(self.device)
        self.sampler = GridSampler(self.architecture.basis)
        self.training = self._samples(training, 'training data')
        self.validation = self._samples(validation, 'validation data')

        self.start, self.best = 0, math.inf
        self.rows: list[Row] = []
        self.steps = config.steps if config.minutes is None else UNKNOWN
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
        )
        if saved is None:
            self._initialize(init)
            self.average = {k: v.clone() for k, v in self.network.state_dict().items()}
        else:
            self._restore(saved)

    def run(self) -> DensityModel:
        """Train to the end; returns the best model, which is also in its file.

        Raises
        ------
        TrainingError
            The loss is no longer finite.
        """
        bar = tqdm(
            total=None if self.steps == UNKNOWN else self.steps,
            initial=self.start,
            unit='step',
            disable=not self.progress,
            dynamic_ncols=True,
        )
        recent: list[tuple[float, float]] = []
        clock = time.perf_counter()
        step = self.start
        while step < self.steps:
            if self.steps == UNKNOWN and step in TIMED_STEPS:
                clock = self._choose_steps(step, clock)
                bar.total = None if self.steps == UNKNOWN else self.steps
            recent.append(self._step(step))
            step += 1
            bar.update()
            if step % self.config.validate_every == 0 or step == self.steps:
                row = self._validate(step, recent)
                recent = []
                bar.set_postfix_str(f'NMAE {row.nmae_validation:.3f} % ε_D {row.matrix_validation:.4f} (validation)')
        bar.close()
        return DensityModel.load(self.files.model)

    def _choose_steps(self, step: int, clock: float) -> float:
        """Start a clock, or stop it and set the number of steps that fit into the given minutes."""
        now = time.perf_counter()
        if step == TIMED_STEPS[1] and self.config.minutes is not None:
            per_step = (now - clock) / (TIMED_STEPS[1] - TIMED_STEPS[0])
            self.steps = max(step + 1, int(60 * self.config.minutes / per_step))
        return now

    def _step(self, step: int) -> tuple[float, float]:
        """One optimisation step on some snapshots; returns their NMAE (%) and ε_D."""
        config = self.config
        samples = [self.training[self._which(config.batch * step + i)] for i in range(config.batch)]
        rng = np.random.default_rng((config.seed, 1, step))
        for group in self.optimizer.param_groups:
            group['lr'] = config.learning_rate * self._schedule(step)
        graph, slices_ts = join([sample.graph for sample in samples], self.network.cutoff)
        output = self.network(graph)
        outputs = [output.part(slices) for slices in slices_ts]
        loss, nmae = torch.zeros((), device=self.device), 0.0
        for sample, part in zip(samples, outputs, strict=True):
            density_R, target_R, weight = self.sampler(sample, part, config.stride, rng)
            error_R = density_R - target_R
            percent = 100 * weight / sample.electrons / len(samples)
            loss = loss + percent * charbonnier(error_R, config.smoothing)
            nmae += percent * error_R.detach().abs().sum().item()
        matrix_error = self._matrix_errors(samples, outputs)
        loss = loss + config.matrix_weight * matrix_error
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
        return nmae, matrix_error.item()

    def _matrix_errors(self, samples: list[Sample], outputs: list[Output]) -> torch.Tensor:
        """Mean ε_D of the elements in some snapshots."""
        squares = [
            matrix_squares(output, sample, self.network.mean_sii)
            for sample, output in zip(samples, outputs, strict=True)
        ]
        return relative_matrix_errors(torch.stack(squares).sum(0)).mean()

    def _which(self, count: int) -> int:
        """The snapshot to take after ``count``: each once per epoch, in an order that seed and epoch fix."""
        epoch, i = divmod(count, len(self.training))
        return int(np.random.default_rng((self.config.seed, 0, epoch)).permutation(len(self.training))[i])

    def _schedule(self, step: int) -> float:
        """Warm-up, then half a cosine down to 0.3 %."""
        warmup = min(1.0, (step + 1) / self.config.warmup)
        return warmup * (0.003 + 0.997 * 0.5 * (1 + math.cos(math.pi * step / self.steps)))

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        decay = min(self.config.averaging, step / (step + 20))
        for key, value in self.network.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[key].lerp_(value, 1 - decay)

    def _validate(self, step: int, recent: list[tuple[float, float]]) -> Row:
        """Errors of the averaged weights; writes model (if it is the best), checkpoint and curve."""
        current = {k: v.clone() for k, v in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        score = self.score(self.validation)
        nmae, matrix_error = np.mean(recent, axis=0).tolist()
        row = Row(step, nmae, matrix_error, score.nmae, score.matrix_error, self._schedule(step - 1))
        self.rows.append(row)
        if score.nmae < self.best:
            self.best = score.nmae
            self._model(row).save(self.files.model)
        self.network.load_state_dict(current)
        Checkpoint(
            self.identity, step, self.steps, self.best, current, self.average, self.optimizer.state_dict(),
            [row.to_list() for row in self.rows],
        ).save(self.files.checkpoint)  # fmt: skip
        write_curve(self.files, self.rows)
        return row

    @torch.no_grad()
    def score(self, samples: list[Sample]) -> Score:
        """Mean NMAE (%) on whole grids and mean ε_D of the elements, over snapshots."""
        nmae, outputs = [], []
        for sample in samples:
            output = self.network(sample.graph)
            density_R, target_R, _ = self.sampler(sample, output, 1)
            nmae.append(100 * (density_R - target_R).abs().sum().item() / sample.electrons)
            outputs.append(output)
        return Score(float(np.mean(nmae)), self._matrix_errors(samples, outputs).item())

    def _model(self, row: Row) -> DensityModel:
        card = {
            'name': self.files.model.stem,
            'training': self.config.to_dict() | {'steps': self.steps},
            'snapshots': {'training': len(self.training), 'validation': len(self.validation)},
            'atoms per snapshot': sorted({sample.natoms for sample in self.training}),
            'validation': {'step': row.step, 'NMAE of ñ, %': row.nmae_validation, 'ε_D': row.matrix_validation},
        }
        familiarity = Familiarity.of(self.network, [sample.graph for sample in self.training])
        return DensityModel(self.architecture, self.network, self.level, self.tables, familiarity, card)

    def _samples(self, dataset: Dataset, what: str) -> list[Sample]:
        return [
            Sample.from_snapshot(snapshot, file.name, self.network, self.tables, self.device)
            for file, snapshot in zip(
                dataset.files, tqdm(dataset, desc=what, disable=not self.progress, leave=False), strict=True
            )
        ]

    def _initialize(self, init: DensityModel | None) -> None:
        """Weights of another model, or random ones; scales from the data unless that model is of the same level."""
        if init is not None:
            self.network.load_state_dict(init.network.state_dict())
            if init.level == self.level:
                return
        samples = self._for_scales()

        def fit(expand: Callable[[Blocks], Blocks], sizes: list[int]) -> list[Blocks]:
            return [fit_coefficients(sample, self.sampler, expand, sizes) for sample in samples]

        self.network.fit_scale([sample.graph for sample in samples], fit, [sample.D_saii for sample in self.training])

    def _for_scales(self) -> list[Sample]:
        """Snapshots at random, until there are enough atoms of each element."""
        order = np.random.default_rng((self.config.seed, 2)).permutation(len(self.training))
        counts_s, chosen = np.zeros(len(self.architecture.species), int), []
        for sample in (self.training[i] for i in order):
            new_s = np.array(sample.graph.counts)
            if (new_s[counts_s < SCALE_ATOMS] > 0).any():
                chosen.append(sample)
                counts_s += new_s
        return chosen

    def _restore(self, saved: Checkpoint) -> None:
        self.network.load_state_dict(saved.network)
        self.optimizer.load_state_dict(saved.optimizer)
        self.average = {k: v.to(self.device) for k, v in saved.average.items()}
        self.start, self.steps, self.best = saved.step, saved.steps, saved.best
        self.rows = [Row(int(step), *errors) for step, *errors in saved.rows]


def _superposition(dataset: Dataset) -> dict[int, RadialTable]:
    tables = code(dataset.level).atomic_tables(dataset.level, dataset.numbers)
    return {Z: RadialTable.fit(r_g, n_g) for Z, (r_g, n_g) in tables.items()}


def _architecture(config: TrainingConfig, dataset: Dataset) -> Architecture:
    species = tuple(dataset.numbers)
    setups = dataset.level.setups(species)
    projectors = tuple(tuple(int(l) for l in setup.l_j) for setup in setups)
    return Architecture(config.network, config.hypers, species, projectors, config.basis)
