"""A model that learns one state after the other while calculations run: its last layer, a little each time.

As in :mod:`.adapt`, a change w of the weights of the last layer changes the density by A w.  After the state t, whose
density is off by e_t, that δ is added to w which minimises, in the Krylov space of A_t and e_t,

    |e_t − A_t δ|² + Σ_{u<t} |A_u δ|² + λ |w + δ|²

in the norm of :mod:`.adapt`: recursive least squares (R. L. Plackett, Biometrika 37, 149 (1950),
doi:10.1093/biomet/37.1-2.149), in which a few rows stand for each A_u.  Atomic matrices have few unknowns: their normal
equations are added up whole.

Every new state first puts what has been learned to the test: where the model that it began from is nearer to it, all is
forgotten, and what follows is learned with more caution.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.model import DensityModel, ModelError
from ase_deepdensity.network.readout import Key, LastLayer, Weights
from ase_deepdensity.state import PAWDensity
from ase_deepdensity.training.adapt import STRENGTH_OF_ONE, AdaptError, DensityFit, Lesson, check_state, lesson_of

DIRECTIONS = 6
"""Of the Krylov space of a state."""
ROWS = 48
"""That stand for all states before, at most."""
STRIDE = 2
"""Of the grid points that are looked at, beginning anywhere: each state another eighth of them."""
CAUTION = 10.0
"""What λ is multiplied with where what was learned did not stand the test."""
CHANCE = 1.05
"""By how much a model that is overwritten may be better on one state."""


class LearnError(AdaptError):
    """Nothing was learned, or a file holds a better model."""


@dataclass(frozen=True)
class Step:
    """What came of one state; NMAE in % of densities that are not normalised, at the points that were looked at."""

    formula: str
    """Of its atoms."""
    begin: float
    """Of the model from which the learning began."""
    before: float
    """Of the model that had learned all states before, and had not seen this one."""
    after: float
    """Of the model that goes on."""
    forgotten: bool
    """What had been learned was worse than nothing."""
    changed: bool
    """The model that goes on is another one."""

    def __str__(self) -> str:
        end = 'what was learned is forgotten, ' if self.forgotten else ''
        change = f'with it {self.after:.3g} %' if self.changed else 'nothing is changed'
        return f'error of ñ {self.begin:.3g} % to begin with, {self.before:.3g} % before this state; {end}{change}'


class Learner:
    """Learns states as they come.

    Parameters
    ----------
    model
        Where it begins; it is left as it is.

    Raises
    ------
    AdaptError
        A network whose last layer is not linear.
    """

    def __init__(self, model: DensityModel):
        try:
            layer = model.network.last_layer()
        except ValueError as error:
            raise AdaptError(f'{model.name} cannot learn: {error}') from None
        self.beginning, self.model = model, model
        self.steps: list[Step] = []
        """One for each state that was not refused."""
        self._parts = (DensityPart(layer, DensityEvaluator(model.architecture.basis, grids=2)), MatrixPart(layer))
        self._newest: PAWDensity | None = None

    def __repr__(self) -> str:
        if not self.steps:
            return f'Learner({self.beginning.name}, nothing learned)'
        return f'Learner({self.beginning.name}, {len(self.steps)} states; the last one: {self.steps[-1]})'

    @torch.no_grad()
    def learn(self, state: PAWDensity) -> Step:
        """Take one converged state in.

        Raises
        ------
        AdaptError
            A state of another level of theory, charge or other datasets, of elements that the model does not know,
            or spin-polarised.  Nothing is changed.
        """
        formula = state.atoms.get_chemical_formula()
        check_state(self.model, state, f'the state of {formula}')
        rng = np.random.default_rng(len(self.steps))
        lesson = lesson_of(self.model, state, f'the state of {formula}', STRIDE, rng)
        density, matrices = self._parts
        begin, before, forgotten, after, changed = density.learn(lesson)
        changed = matrices.learn(lesson) or changed or forgotten
        if changed:
            self._renew()
        self._newest = state
        step = Step(formula, begin, before, after, forgotten, changed)
        self.steps.append(step)
        return step

    def weights(self) -> Weights:
        """What has been learned, (channels, outputs) of each kind of features."""
        total: Weights = {}
        for part in self._parts:
            for key, change_co in part.weights().items():
                total[key] = total[key] + change_co if key in total else change_co
        return total

    def take(self, weights: Weights | None, steps: list[Step]) -> None:
        """What another learner that began from the same model has learned; without weights: they have not changed."""
        self.steps = list(steps)
        if weights is not None:
            self._renew(weights)

    def _renew(self, weights: Weights | None = None) -> None:
        network = copy.deepcopy(self.beginning.network)
        network.last_layer().add(self.weights() if weights is None else weights)
        self.model = replace(self.beginning, network=network.eval(), error_bars=None)

    def learned(self) -> DensityModel:
        """The model, whose card tells how it came about."""
        tested = [step for step in self.steps[1:] if not step.forgotten]
        record = {
            'states': len(self.steps),
            'of': sorted({step.formula for step in self.steps}),
            'NMAE of new states to begin with, %': _mean([step.begin for step in tested]),
            'NMAE of new states before they were learned, %': _mean([step.before for step in tested]),
        }
        return replace(self.model, card=self.beginning.card | {'learned': record})

    def save(self, path: str | Path) -> None:
        """Write the model that has learned.

        Raises
        ------
        LearnError
            Nothing was learned, or there is a model of this name that is nearer to the newest state than this one was
            before that was learned.
        ModelError
            No such folder.
        """
        if self.model is self.beginning or not self.steps:
            raise LearnError(
                f'{self.beginning.name} has learned nothing from {len(self.steps)} states; {path} is left as it is'
            )
        mine, theirs = self.steps[-1].before, self._error_of(path)
        if theirs is not None and CHANCE * theirs < mine:
            raise LearnError(
                f'{path} holds a better model: on the newest state it is off by {theirs:.3g} %, this one by {mine:.3g} '
                '% before it had seen it; nothing is written: save it under another name'
            )
        model = self.learned()
        model.card['name'] = Path(path).stem
        model.save(path)

    @torch.no_grad()
    def _error_of(self, path: str | Path) -> float | None:
        """NMAE of the newest state with the model of a file, %; None: there is no such model for it."""
        if self._newest is None or not Path(path).is_file():
            return None
        try:
            model = DensityModel.load(path)
            check_state(model, self._newest, 'the newest state')
        except (ModelError, AdaptError):
            return None
        return _nmae(lesson_of(model, self._newest, 'the newest state', STRIDE))


class DensityPart:
    """What is learned of ñ."""

    def __init__(self, layer: LastLayer, evaluate: DensityEvaluator):
        self.layer, self.evaluate = layer, evaluate
        self.forget(STRENGTH_OF_ONE)

    def forget(self, strength: float) -> None:
        self.strength = strength
        self._unit_k: dict[Key, float] = {}
        self._v_kx: dict[Key, torch.Tensor] = {}
        self._rows_kix: dict[Key, torch.Tensor] = {}

    def learn(self, lesson: Lesson) -> tuple[float, float, bool, float, bool]:
        """NMAE to begin with and before, whether all was forgotten, NMAE after, whether anything was changed."""
        fit = self._fit(lesson)
        said_p = fit.density(lesson, self._total(fit)[None])[0]
        begun = replace(lesson, error_p=lesson.error_p + said_p)
        begin, before = _nmae(begun), _nmae(lesson)
        forgotten = begin < before
        if forgotten:
            self.forget(CAUTION * self.strength)
            lesson, fit = begun, self._fit(begun)
        krylov = fit.krylov([lesson], DIRECTIONS)
        delta_x = self._delta(fit, krylov.v_ix, krylov.B_ji, krylov.norm)
        after = _nmae(replace(lesson, error_p=lesson.error_p - fit.density(lesson, delta_x[None])[0]))
        now = _nmae(lesson)
        if not after < now:
            return begin, before, forgotten, now, False
        self._keep(fit, self._total(fit) + delta_x, krylov.B_ji.to(krylov.v_ix) @ krylov.v_ix)
        return begin, before, forgotten, after, True

    def weights(self) -> Weights:
        """Changes of the weights, (channels, outputs)."""
        weights = {}
        for key, v_x in self._v_kx.items():
            readout = self.layer.readouts[key]
            change_co = v_x.unflatten(0, (readout.channels, readout.functions)) * self._unit_k[key]
            weights[key] = torch.nn.functional.pad(change_co, (0, readout.outputs - readout.functions))
        return weights

    def _fit(self, lesson: Lesson) -> DensityFit:
        """With the units that a kind of features had when it came first."""
        fit = DensityFit(self.layer, self.evaluate, [lesson])
        fit.unit_k |= {key: unit for key, unit in self._unit_k.items() if key in fit.unit_k}
        return fit

    def _total(self, fit: DensityFit) -> torch.Tensor:
        pairs = zip(fit.keys, fit.sizes, strict=True)
        return torch.cat([self._v_kx[key] if key in self._v_kx else torch.zeros(size) for key, size in pairs])

    def _rows(self, fit: DensityFit) -> torch.Tensor:
        """(rows, unknowns) that stand for all states before."""
        number = max((len(rows_ix) for rows_ix in self._rows_kix.values()), default=0)
        parts = [self._rows_kix.get(key, torch.zeros(0, size)) for key, size in zip(fit.keys, fit.sizes, strict=True)]
        padded = [torch.nn.functional.pad(rows_ix, (0, 0, number - len(rows_ix), 0)) for rows_ix in parts]
        return torch.cat(padded, 1)

    def _delta(self, fit: DensityFit, v_ix: torch.Tensor, B_ji: torch.Tensor, norm: float) -> torch.Tensor:
        old_ri = (self._rows(fit) @ v_ix.T).double()
        matrix_ii = B_ji.T @ B_ji + old_ri.T @ old_ri + self.strength * torch.eye(len(v_ix), dtype=torch.float64)
        right_i = norm * B_ji[0] - self.strength * (v_ix @ self._total(fit)).double()
        return torch.linalg.solve(matrix_ii, right_i).float() @ v_ix

    def _keep(self, fit: DensityFit, v_x: torch.Tensor, new_ix: torch.Tensor) -> None:
        for key, part_x, unit in zip(fit.keys, v_x.split(fit.sizes), fit.unit_k.values(), strict=True):
            self._v_kx[key], self._unit_k[key] = part_x, unit
        number = max((len(rows_ix) for rows_ix in self._rows_kix.values()), default=0)
        sizes = {key: len(v_x) for key, v_x in self._v_kx.items()}
        new_k = dict(zip(fit.keys, new_ix.split(fit.sizes, 1), strict=True))
        rows_kix = {
            key: torch.cat(
                [self._rows_kix.get(key, torch.zeros(number, size)), new_k.get(key, torch.zeros(len(new_ix), size))]
            )
            for key, size in sizes.items()
        }
        self._rows_kix = _fewer(rows_kix, ROWS)


class MatrixPart:
    """What is learned of atomic matrices."""

    def __init__(self, layer: LastLayer):
        self.layer = layer
        self._equations: dict[Key, Equations] = {}

    def learn(self, lesson: Lesson) -> bool:
        """Whether anything was changed."""
        was = {key: equations.w_cb for key, equations in self._equations.items()}
        begun = {key: -w_cb for key, w_cb in was.items()}
        forgotten = self._square(lesson, begun) < self._square(lesson, {})
        if forgotten:
            lesson = replace(lesson, error_kbma=self._begun(lesson, was))
            was, self._equations = {}, {}
        equations = dict(self._equations)
        for key, error_bma in self._begun(lesson, was).items():
            x_rc = lesson.features[key].flatten(0, 1).double()
            y_rb = error_bma.flatten(1).T.double()
            equations[key] = Equations.of(x_rc, y_rb, equations.get(key))
        changes = {key: e.w_cb - was[key] if key in was else e.w_cb for key, e in equations.items()}
        if not self._square(lesson, changes) < self._square(lesson, {}):
            return forgotten
        self._equations = equations
        return True

    def weights(self) -> Weights:
        """Changes of the weights, (channels, outputs)."""
        return {
            key: torch.nn.functional.pad(equations.w_cb.float(), (self.layer.readouts[key].functions, 0))
            for key, equations in self._equations.items()
        }

    def _begun(self, lesson: Lesson, w_kcb: dict[Key, torch.Tensor]) -> dict[Key, torch.Tensor]:
        """Errors of the model that it began from."""
        return {
            key: error_bma + _said(lesson, key, w_kcb[key]) if key in w_kcb else error_bma
            for key, error_bma in lesson.error_kbma.items()
        }

    def _square(self, lesson: Lesson, w_kcb: dict[Key, torch.Tensor]) -> float:
        """Σ (D − D_ref)² over all atoms with a change of the weights."""
        total = 0.0
        for key, error_bma in lesson.error_kbma.items():
            readout = self.layer.readouts[key]
            if key in w_kcb:
                error_bma = error_bma - _said(lesson, key, w_kcb[key])
            total += float((error_bma * readout.scale_o[readout.functions :, None, None]).square().sum())
        return total


@dataclass(frozen=True, eq=False)
class Equations:
    """Normal equations of the atomic matrices of one kind of features, float64, and their solution."""

    xx_cc: torch.Tensor
    xy_cb: torch.Tensor
    ridge: float
    """λ times the mean square of the features of the first state."""
    w_cb: torch.Tensor

    @classmethod
    def of(cls, x_rc: torch.Tensor, y_rb: torch.Tensor, before: Equations | None) -> Equations:
        """With more rows."""
        ridge = STRENGTH_OF_ONE * max(float(x_rc.square().mean()), 1e-12) if before is None else before.ridge
        xx_cc, xy_cb = x_rc.T @ x_rc, x_rc.T @ y_rb
        if before is not None:
            xx_cc, xy_cb = xx_cc + before.xx_cc, xy_cb + before.xy_cb
        eye_cc = torch.eye(len(xx_cc), dtype=torch.float64)
        return cls(xx_cc, xy_cb, ridge, torch.linalg.solve(xx_cc + ridge * eye_cc, xy_cb))


def _said(lesson: Lesson, key: Key, w_cb: torch.Tensor) -> torch.Tensor:
    """(couplings, 2L+1, natoms) what weights say of atomic matrices."""
    said_mab: torch.Tensor = lesson.features[key] @ w_cb.to(lesson.features[key])
    return said_mab.permute(2, 0, 1)


def _fewer(rows_kix: dict[Key, torch.Tensor], most: int) -> dict[Key, torch.Tensor]:
    """Rows that have nearly the same squares |R v|², at most so many: those of the largest singular values."""
    gram_ii = sum(rows_ix.double() @ rows_ix.double().T for rows_ix in rows_kix.values())
    if not isinstance(gram_ii, torch.Tensor) or len(gram_ii) <= most:
        return rows_kix
    turn_ij = torch.linalg.eigh(gram_ii)[1][:, -most:].float()
    return {key: turn_ij.T @ rows_ix for key, rows_ix in rows_kix.items()}


def _nmae(lesson: Lesson) -> float:
    return float(lesson.error_p.abs().sum()) * lesson.weight


def _mean(figures: list[float]) -> float | None:
    return float(np.mean(figures)) if figures else None
