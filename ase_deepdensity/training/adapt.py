"""A model taught by a few snapshots in seconds: other weights of its last layer, in closed form.

What the last layer reads stays as it is, so that the density is linear in changes Δ of its weights (:mod:`.readout`).
Of all changes that one is taken which minimises, r being the error of ñ before,

    Σ_snapshots ∫ |r − A Δ|² dr + λ Σ_keys s² q Σ |Δ|²,

q the mean square of the features, s² that of the scales of the element's coefficients: in a Bayesian picture the
weights of the model count as much as λ atoms with features in random directions (D. J. C. MacKay, Neural Comput. 4, 415
(1992), doi:10.1162/neco.1992.4.3.415).  Atomic matrices likewise, each kind of its own.  Each snapshot is left out in
turn to find the λ that serves it best, no change at all being one of the possibilities.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase.data import chemical_symbols

from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.model import DensityModel
from ase_deepdensity.network.readout import Features, Key, LastLayer, Weights
from ase_deepdensity.snapshot import Snapshot
from ase_deepdensity.state import PAWDensity
from ase_deepdensity.training.batch import Batch, cosets
from ase_deepdensity.training.data import sample_of, target_of
from ase_deepdensity.training.ridge import Krylov
from ase_deepdensity.training.step import density_at

STRENGTHS = tuple(10.0 ** (power / 2) for power in range(-8, 7))
"""λ that are tried."""
STRENGTH_OF_ONE = 1.0
"""λ for a single snapshot, of which none can be left out."""
DIRECTIONS = 40
"""In the space of changes, at most."""
MOST_FOLDS = 5
"""Parts of the snapshots that are left out in turn, at most."""
STRIDE = 1
"""Every point: with every second one, the integral of what is learned came out wrong by 0.5 %."""
LEAST_GAIN = 0.02
"""Of the error of what is left out: less is chance, and nothing is changed."""


class AdaptError(ValueError):
    """Snapshots that a model cannot be adapted to; the model stays as it is."""


@dataclass(frozen=True)
class Adaptation:
    """What came of it."""

    strength: float | None
    """λ of the density; None: no change served what was left out."""
    matrix_strength: float | None
    """The same of the atomic matrices."""
    before: float
    """Mean NMAE of the snapshots, %, of densities that are not normalised."""
    after: float
    """The same with the new weights."""
    left_out: float | None
    """The same of snapshots that were left out; None: there was only one."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """A snapshot for a model: what it says of it, and what it should."""

    batch: Batch
    features: Features
    error_p: torch.Tensor
    """(points,) reference minus prediction, electrons/Å³."""
    dv: float
    """Volume of a point, Å³."""
    error_kbma: dict[Key, torch.Tensor]
    """The same of the atomic matrices' components (couplings, 2L+1, natoms), in units of their scales."""

    @property
    def weight(self) -> float:
        """Of an error at a point in the NMAE, %."""
        return float(self.batch.weight_p[0])


def adapt(model: DensityModel, snapshots: Sequence[Snapshot]) -> tuple[DensityModel, Adaptation]:
    """A copy of a model that has learned some snapshots, and what came of it.

    Raises
    ------
    AdaptError
        No snapshots; of another level of theory, charge or other datasets; elements that the model does not know;
        spin-polarised ones; or a network whose last layer is not linear.
    """
    check(model, snapshots)
    lessons = [lesson_of(model, snapshot.density, f'snapshot {t}', STRIDE) for t, snapshot in enumerate(snapshots)]
    layer, evaluate = model.network.last_layer(), DensityEvaluator(model.architecture.basis)
    fit = DensityFit(layer, evaluate, lessons)
    strength, left_out = fit.strength()
    change = fit.change(lessons, strength)
    matrix_strength = _matrix_strength(layer, lessons)
    for key, change_co in _matrix_changes(layer, lessons, matrix_strength).items():
        change[key] = change[key] + change_co
    network = copy.deepcopy(model.network)
    network.last_layer().add(change)
    report = Adaptation(strength, matrix_strength, fit.error(lessons, None), fit.error(lessons, change), left_out)
    if not all(x.isfinite().all() for x in change.values()):
        raise AdaptError(f'{model.name}: the change of its weights is not finite')
    card = model.card | {
        'adapted': {
            'to': [snapshot.atoms.get_chemical_formula() for snapshot in snapshots],
            'λ': strength, 'λ of D': matrix_strength,
            'NMAE before, %': report.before, 'NMAE after, %': report.after, 'NMAE of left-out snapshots, %': left_out,
        }
    }  # fmt: skip
    return replace(model, network=network.eval(), card=card, error_bars=None), report


def check(model: DensityModel, snapshots: Sequence[Snapshot]) -> None:
    """Refuse snapshots that a model cannot be adapted to, before any work."""
    if not len(snapshots):
        raise AdaptError(f'{model.name}: there are no snapshots to adapt it to')
    try:
        model.network.last_layer()
    except ValueError as error:
        raise AdaptError(f'{model.name} cannot be adapted: {error}') from None
    for t, snapshot in enumerate(snapshots):
        check_state(model, snapshot.density, f'snapshot {t} ({snapshot.atoms.get_chemical_formula()})')


def check_state(model: DensityModel, state: PAWDensity, which: str) -> None:
    """Refuse a state that a model cannot learn."""
    if unknown := sorted(set(state.atoms.numbers.tolist()) - set(model.species)):
        names = ', '.join(chemical_symbols[Z] for Z in unknown)
        raise AdaptError(f'{which} has {names}, which {model.name} does not know ({", ".join(model.symbols)})')
    if differences := model.differences(state.level):
        raise AdaptError(f'{which} is of another level of theory than {model.name}: {"; ".join(differences)}')
    if state.nspins != 1:
        raise AdaptError(f'{which} is spin-polarised; only spin-paired ones can be learned in closed form')
    if state.charge != model.charge and not model.network.sees_charge:
        raise AdaptError(f'{which} has the charge {state.charge:g}, {model.name} {model.charge:g}')


@torch.no_grad()
def lesson_of(
    model: DensityModel, state: PAWDensity, name: str, stride: int, rng: np.random.Generator | None = None
) -> Lesson:
    """What a state tells a model, at every ``stride``-th grid point along each axis from a random or the first one on.

    Raises
    ------
    AdaptError
        Output that is not finite.
    """
    network = model.network
    sample = sample_of(state, name, network, model.atom_types)
    batch = cosets([sample], [target_of(state, model.atom_types)], network.cutoff, stride, rng)
    output = network(batch.system).mean()
    if not output.finite_a(batch.system).all():
        raise AdaptError(f'{name}: the output of {model.name} is not finite there')
    error_p = batch.target_sp[0] - density_at(output, batch, DensityEvaluator(model.architecture.basis))[0, 0]
    features = network.features(batch.system)
    error_zaii = {Z: sample.D_zsaii[Z][0] - D_esaii[0, 0] for Z, D_esaii in output.D_zesaii.items()}
    grid = batch.places[0].grid  # type: ignore[index]
    return Lesson(batch, features, error_p, grid.dv, network.last_layer().components(error_zaii, features))


class DensityFit:
    """Changes of weights that the densities of some snapshots ask for."""

    def __init__(self, layer: LastLayer, evaluate: DensityEvaluator, lessons: Sequence[Lesson]):
        self.layer, self.evaluate, self.lessons = layer, evaluate, lessons
        self.keys = [
            key for key, readout in layer.readouts.items()
            if readout.functions and any(key in lesson.features for lesson in lessons)
        ]  # fmt: skip
        self.unit_k = {key: self._unit(key) for key in self.keys}
        shapes = {key: (layer.readouts[key].channels, layer.readouts[key].functions) for key in self.keys}
        self.shapes = shapes
        self.sizes = [int(np.prod(shape)) for shape in shapes.values()]

    def _unit(self, key: Key) -> float:
        """1/(s √q): what a change of a weight is divided by."""
        of_element = [r for (Z, *_), r in self.layer.readouts.items() if Z == key[0] and r.functions]
        scale = float(torch.cat([r.scale_o[: r.functions] for r in of_element]).square().mean().sqrt())
        return 1 / (scale * _rms([lesson.features[key] for lesson in self.lessons if key in lesson.features]))

    def weights(self, v_ix: torch.Tensor) -> Weights:
        """Changes of the weights from (n, unknowns): (n, channels, outputs), of the atomic matrices none."""
        weights = {}
        for key, part_ix in zip(self.keys, v_ix.split(self.sizes, dim=1), strict=True):
            missing = self.layer.readouts[key].outputs - self.shapes[key][1]
            part_ico = part_ix.unflatten(1, self.shapes[key]) * self.unit_k[key]
            weights[key] = torch.nn.functional.pad(part_ico, (0, missing))
        return weights

    def density(self, lesson: Lesson, v_ix: torch.Tensor) -> torch.Tensor:
        """(n, points) what changes do to the density."""
        features = {key: lesson.features[key] for key in self.keys if key in lesson.features}
        output = self.layer.says(features, self.weights(v_ix), lesson.batch.system)
        return density_at(output, lesson.batch, self.evaluate)[:, 0]

    def krylov(self, lessons: Sequence[Lesson], directions: int | None = None) -> Krylov:
        """Of the changes and the errors of some snapshots; default: :data:`DIRECTIONS`."""
        root_t = [lesson.dv**0.5 for lesson in lessons]

        def image(v_x: torch.Tensor) -> torch.Tensor:
            parts = [root * self.density(lesson, v_x[None])[0] for root, lesson in zip(root_t, lessons, strict=True)]
            return torch.cat(parts)

        def transpose(u_p: torch.Tensor) -> torch.Tensor:
            with torch.enable_grad():
                v_x = torch.zeros(sum(self.sizes), requires_grad=True)
                (gradient_x,) = torch.autograd.grad(image(v_x) @ u_p, v_x)
            return gradient_x

        b_p = torch.cat([root * lesson.error_p for root, lesson in zip(root_t, lessons, strict=True)])
        with torch.no_grad():
            return Krylov.of(image, transpose, b_p, DIRECTIONS if directions is None else directions)

    @torch.no_grad()
    def strength(self) -> tuple[float | None, float | None]:
        """The λ that serves left-out snapshots best, and their mean NMAE (%) with it; (None, …): no change does."""
        if len(self.lessons) == 1:
            return STRENGTH_OF_ONE, None
        errors_ts, before_t = [], []
        for left_out in folds(len(self.lessons)):
            krylov = self.krylov([lesson for t, lesson in enumerate(self.lessons) if t not in left_out])
            y_si = krylov.coefficients(STRENGTHS).float()
            for t in left_out:
                lesson = self.lessons[t]
                change_sp = y_si @ self.density(lesson, krylov.v_ix)
                errors_ts.append((lesson.error_p - change_sp).abs().sum(1) * lesson.weight)
                before_t.append(float(lesson.error_p.abs().sum()) * lesson.weight)
        error_s, before = torch.stack(errors_ts).mean(0), float(np.mean(before_t))
        best = int(error_s.argmin())
        if not error_s[best] < (1 - LEAST_GAIN) * before:
            return None, before
        return STRENGTHS[best], float(error_s[best])

    def change(self, lessons: Sequence[Lesson], strength: float | None) -> Weights:
        """Of all weights, (channels, outputs)."""
        change = self.layer.zeros()
        if strength is None:
            return change
        krylov = self.krylov(lessons)
        v_x = krylov.coefficients([strength])[0].float() @ krylov.v_ix
        return change | {key: part_ico[0] for key, part_ico in self.weights(v_x[None]).items()}

    @torch.no_grad()
    def error(self, lessons: Sequence[Lesson], change: Weights | None) -> float:
        """Mean NMAE, %, of densities that are not normalised."""
        errors = []
        for lesson in lessons:
            error_p = lesson.error_p
            if change is not None:
                weights = {key: change[key][None] for key in lesson.features}
                said = self.layer.says(lesson.features, weights, lesson.batch.system)
                error_p = error_p - density_at(said, lesson.batch, self.evaluate)[0, 0]
            errors.append(float(error_p.abs().sum()) * lesson.weight)
        return float(np.mean(errors))


def folds(number: int) -> list[list[int]]:
    """Which snapshots are left out together."""
    parts = min(number, MOST_FOLDS)
    return [list(range(first, number, parts)) for first in range(parts)]


def _rms(x_tmac: Sequence[torch.Tensor]) -> float:
    square = sum(float(x_mac.square().sum()) for x_mac in x_tmac) / sum(x_mac.numel() for x_mac in x_tmac)
    return max(square, 1e-12) ** 0.5


def _matrix_strength(layer: LastLayer, lessons: Sequence[Lesson]) -> float | None:
    """The λ of the atomic matrices that serves left-out snapshots best; None: no change does."""
    if not any(lesson.error_kbma for lesson in lessons):
        return None
    if len(lessons) == 1:
        return STRENGTH_OF_ONE
    square_s, before = np.zeros(len(STRENGTHS)), 0.0
    for left_out in folds(len(lessons)):
        kept = [lesson for t, lesson in enumerate(lessons) if t not in left_out]
        held = [lessons[t] for t in left_out]
        before += sum(_matrix_square(layer, lesson, {}) for lesson in held)
        for s, strength in enumerate(STRENGTHS):
            changes = _matrix_changes(layer, kept, strength)
            square_s[s] += sum(_matrix_square(layer, lesson, changes) for lesson in held)
    best = int(square_s.argmin())
    return STRENGTHS[best] if square_s[best] < (1 - LEAST_GAIN) ** 2 * before else None


def _matrix_square(layer: LastLayer, lesson: Lesson, changes: Weights) -> float:
    """Σ (D − D_ref)² over all atoms."""
    total = 0.0
    for key, error_bma in lesson.error_kbma.items():
        readout = layer.readouts[key]
        if key in changes:
            said_mao = lesson.features[key] @ changes[key][:, readout.functions :]
            error_bma = error_bma - said_mao.permute(2, 0, 1)
        total += float((error_bma * readout.scale_o[readout.functions :, None, None]).square().sum())
    return total


def _matrix_changes(layer: LastLayer, lessons: Sequence[Lesson], strength: float | None) -> Weights:
    """Changes of all weights of the atomic matrices, (channels, outputs)."""
    changes: Weights = {}
    if strength is None:
        return changes
    for key, readout in layer.readouts.items():
        some = [lesson for lesson in lessons if key in lesson.error_kbma]
        if not some:
            continue
        x_rc = torch.cat([lesson.features[key].flatten(0, 1) for lesson in some]).double()
        y_rb = torch.cat([lesson.error_kbma[key].flatten(1).T for lesson in some]).double()
        ridge_cc = strength * _rms([x_rc]) ** 2 * torch.eye(readout.channels, dtype=torch.float64)
        change_cb = torch.linalg.solve(x_rc.T @ x_rc + ridge_cc, x_rc.T @ y_rb)
        changes[key] = torch.nn.functional.pad(change_cb, (readout.functions, 0)).float()
    return changes
