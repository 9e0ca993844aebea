"""Active learning: of a pool of geometries those are calculated that tell a model most of it, until it is good enough.

A folder holds all of it: ``held-out`` and ``snapshots`` (data sets), ``model.safetensors`` (the best so far),
``progress.csv`` and ``progress.png``, and ``plan.json``, from which the same call goes on after a kill.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ase_deepdensity.analysis.compare import nmae
from ase_deepdensity.checks import check_atoms
from ase_deepdensity.codes import code_of
from ase_deepdensity.dataset.folder import SNAPSHOT_SUFFIX, Dataset, DatasetError
from ase_deepdensity.files import read_json, replacing, replacing_path, whole_files
from ase_deepdensity.generate.folder import generate
from ase_deepdensity.generate.jobs import job_hash
from ase_deepdensity.level import Level, LevelError
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor
from ase_deepdensity.sampling.choose import environments, most_telling
from ase_deepdensity.training.adapt import adapt
from ase_deepdensity.training.curve import write_table

MOST = 20
"""Snapshots that are learned in closed form; more are worth a training."""
SMALLEST = 1e-4
"""%, in the picture, whose axis is logarithmic."""


@dataclass(frozen=True)
class Row:
    """After some snapshots."""

    snapshots: int
    nmae: float
    """Of ñ, %, normalised, mean over those held out, with the best model so far."""
    worst: float
    """The largest of these."""
    seconds: float
    """Wall time until then, that of earlier runs included."""


@dataclass
class Plan:
    """What is to be done and what has been done; of the pool by number."""

    pool: str
    """A hash of the geometries and the level."""
    init: str
    held_out: list[int]
    chosen: list[int]
    rows: list[Row]

    @classmethod
    def load(cls, path: Path) -> Plan:
        data = read_json(path.read_text(encoding='utf-8'))
        return cls(**data | {'rows': [Row(**row) for row in data['rows']]})

    def save(self, path: Path) -> None:
        with replacing(path) as file:
            json.dump(asdict(self), file, indent=1)


@dataclass(frozen=True)
class Outcome:
    """How it ended."""

    reason: str
    rows: list[Row]
    model: Path | None
    """None: no snapshot has made the model better."""


class ActiveLearning:
    """Learns from a pool.

    Parameters
    ----------
    pool
        Geometries to choose from.
    out
        The folder.
    level
        Of theory, that of the model.
    init
        The model to begin with.
    target
        NMAE of ñ, %, mean over the snapshots held out, at which it stops.
    budget
        Seconds of wall time, those of earlier runs included, after which nothing more is begun.
    held_out
        Number of geometries of the pool, drawn at random, on which the model is measured and from which nothing is
        learned.
    batch
        Snapshots from one look at the pool to the next.
    seed
        Of what is held out.
    calculate
        The file of the best model so far (None: there is none yet) → what calculates snapshots, see :func:`.generate`
        (None: the level's own).
    options
        Of :func:`.generate`.

    Raises
    ------
    LevelError
        A model of another level of theory.
    ValueError
        A pool that is too small, or figures that are out of range.
    PredictionError
        Geometries that the model does not know.
    DatasetError
        A folder of another pool, level or model.
    """

    def __init__(
        self,
        pool: Sequence[Atoms],
        out: str | Path,
        level: Level,
        init: DensityModel,
        *,
        target: float,
        budget: float,
        held_out: int = 4,
        batch: int = 2,
        seed: int = 0,
        calculate: Callable[[Path | None], Callable[..., Any] | None] = lambda best: None,
        log: Callable[[str], None] = print,
        **options: Any,
    ):
        _check(pool, target, budget, held_out, batch)
        for atoms in pool:
            check_atoms(atoms, init)
        self.level = code_of(level).check(level, np.concatenate([atoms.numbers for atoms in pool]))
        if differences := init.differences(self.level):
            raise LevelError(f'{init.name} is of another level of theory: {"; ".join(differences)}')
        self.pool, self.out, self.init, self.model = list(pool), Path(out), init, init
        self.target, self.budget, self.batch = target, budget, batch
        self.calculate, self.log, self.options = calculate, log, options
        self.plan = self._plan(held_out, seed)
        self._begin = time.perf_counter() - (self.plan.rows[-1].seconds if self.plan.rows else 0.0)

    @property
    def model_file(self) -> Path:
        return self.out / 'model.safetensors'

    def run(self) -> Outcome:
        """Go on until there is a reason to stop."""
        held_out = self._snapshots('held-out', self.plan.held_out)
        if held_out is None:
            raise DatasetError(f'{self.out / "held-out"}: none of these calculations has come to an end')
        if self.model_file.exists():
            self.model = DensityModel.load(self.model_file)
        if not self.plan.rows:
            self._note(0, *self._errors(self.model, held_out))
        while not (reason := self._reason()):
            self._round(held_out)
        self.log(f'{self.out}: {reason}')
        return Outcome(reason, self.plan.rows, self.model_file if self.model_file.exists() else None)

    def _round(self, held_out: Dataset) -> None:
        """Choose, calculate, learn, measure."""
        plan = self.plan
        if len(plan.chosen) <= plan.rows[-1].snapshots:  # else a run was killed in the midst of them
            plan.chosen += self._choose(min(self.batch, MOST - len(plan.chosen)))
            plan.save(self.out / 'plan.json')
        dataset = self._snapshots('snapshots', plan.chosen)
        before = plan.rows[-1].nmae, plan.rows[-1].worst
        if dataset is not None:
            model = adapt(self.init, dataset)[0]
            errors = self._errors(model, held_out)
            if errors[0] < before[0]:
                self.model = replace(
                    model, card=model.card | {'name': 'model', 'held out': {'NMAE of ñ, %': errors[0]}}
                )
                self.model.save(self.model_file)
                before = errors
        self._note(len(plan.chosen), *before)

    def _choose(self, number: int) -> list[int]:
        """Those that tell the model of the beginning most of the pool."""
        taken = [*self.plan.held_out, *self.plan.chosen]
        free = [n for n in range(len(self.pool)) if n not in taken]
        return most_useful(self.pool, free, self.plan.chosen, number, self.init)

    def _snapshots(self, name: str, chosen: Sequence[int]) -> Dataset | None:
        """Calculate what is not there yet; failures are left out, None: there is nothing else."""
        best = self.model_file if self.model_file.exists() else None
        options = {'log': self.log, 'calculate': self.calculate(best)} | self.options
        generate([self.pool[n] for n in chosen], self.out / name, self.level, **options)
        return Dataset(self.out / name) if whole_files(self.out / name, SNAPSHOT_SUFFIX) else None

    def _errors(self, model: DensityModel, held_out: Dataset) -> tuple[float, float]:
        """NMAE of ñ, %: mean and largest."""
        predictor = Predictor(model, level=held_out.level, extrapolate=True)
        errors = [
            nmae(predictor.predict(snapshot.atoms, snapshot.density.grid), snapshot.density) for snapshot in held_out
        ]
        return float(np.mean(errors)), float(max(errors))

    def _note(self, snapshots: int, mean: float, worst: float) -> None:
        self.plan.rows.append(Row(snapshots, mean, worst, time.perf_counter() - self._begin))
        self.plan.save(self.out / 'plan.json')
        write_progress(self.out, self.plan.rows, self.target)
        self.log(f'{snapshots:3d} snapshots: NMAE of ñ {mean:.3f} %, at worst {worst:.3f} %, of those held out')

    def _reason(self) -> str:
        """To stop; empty: there is none."""
        row = self.plan.rows[-1]
        if row.nmae <= self.target:
            return f'the target of {self.target:g} % is reached with {row.snapshots} snapshots'
        if time.perf_counter() - self._begin >= self.budget:
            return f'the budget of {self.budget / 60:.3g} minutes is spent'
        if len(self.plan.chosen) > row.snapshots:
            return ''
        if len(self.plan.held_out) + len(self.plan.chosen) >= len(self.pool):
            return 'the pool is used up'
        if row.snapshots >= MOST:
            return f'{MOST} snapshots are learned; train on them (deepdensity train {self.out / "snapshots"} --init …)'
        return ''

    def _plan(self, held_out: int, seed: int) -> Plan:
        """That of an earlier run, or a new one."""
        path, pool = self.out / 'plan.json', '-'.join(job_hash(atoms, self.level)[:8] for atoms in self.pool)
        if path.exists():
            plan = Plan.load(path)
            if plan.pool != pool or plan.init != self.init.name:
                raise DatasetError(
                    f'{self.out} was begun with another pool, level or model ({plan.init}); give another folder'
                )
            return plan
        if self.out.is_dir() and any(self.out.iterdir()):
            raise DatasetError(f'{self.out} is not empty, and no earlier run of this; give another folder')
        self.out.mkdir(parents=True, exist_ok=True)
        drawn = np.random.default_rng(seed).permutation(len(self.pool))[:held_out]
        plan = Plan(pool, self.init.name, sorted(drawn.tolist()), [], [])
        plan.save(path)
        return plan


def most_useful(
    pool: Sequence[Atoms], free: Sequence[int], known: Sequence[int], number: int, model: DensityModel
) -> list[int]:
    """Which of a pool to learn next: of the ``free`` so many that, with the ``known``, tell most of all of these."""
    order = most_telling(*(environments([pool[n] for n in some], model) for some in (free, known)))
    return [free[n] for n, _ in zip(order, range(number), strict=False)]


def _check(pool: Sequence[Atoms], target: float, budget: float, held_out: int, batch: int) -> None:
    """Refuse figures out of range."""
    for name, value in ('target', target), ('budget', budget):
        if not value > 0:
            raise ValueError(f'the {name} must be more than 0, not {value}')
    for name, number in ('held-out snapshots', held_out), ('snapshots in a batch', batch):
        if number < 1:
            raise ValueError(f'the number of {name} must be at least 1, not {number}')
    if len(pool) <= held_out:
        raise ValueError(f'a pool of {len(pool)} geometries is too small to hold {held_out} out and learn from others')


def write_progress(out: Path, rows: Sequence[Row], target: float) -> None:
    """The table and the picture, each whole or not at all."""
    from matplotlib.figure import Figure

    write_table(out / 'progress.csv', Row, rows)
    figure = Figure(figsize=(5, 3.2), layout='constrained')
    axes = figure.subplots()
    number = [row.snapshots for row in rows]
    axes.semilogy(number, [max(row.nmae, SMALLEST) for row in rows], 'o-', label='mean of those held out')
    axes.semilogy(number, [max(row.worst, SMALLEST) for row in rows], '.--', label='worst of them')
    axes.axhline(target, color='gray', linewidth=1, label='target')
    axes.set_xlabel('snapshots learned')
    axes.set_ylabel('NMAE of ñ, %')
    axes.legend()
    with replacing_path(out / 'progress.png') as temporary:
        figure.savefig(temporary, format='png', dpi=150)
