"""Error bars for a trained model, from its training data and from snapshots that took no part in its training.

Signs of how wrong a prediction is (:mod:`ase_deepdensity.network.error_bars`) are weighted so that ln of the true error
of each atom comes out, by least squares with a ridge.  Held-out systems and those of the training count as much as each
other.  A tenth of all chemical formulas is left out in turn, which gives a common factor and the σ of ln NMAE for
held-out systems of formulas that no weight was fitted to; of a model of one compound, a tenth of the snapshots.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from scipy.optimize import lsq_linear
from scipy.stats import spearmanr
from tqdm import tqdm

from ase_deepdensity.analysis.dipole import origin_caveat
from ase_deepdensity.analysis.shares import nearest_sums
from ase_deepdensity.atoms_coefficients import AtomsCoefficients
from ase_deepdensity.checks import PredictionError
from ase_deepdensity.dataset import Dataset
from ase_deepdensity.expected_error import BeyondDensity
from ase_deepdensity.model import DensityModel
from ase_deepdensity.network.contract import Coefficients
from ase_deepdensity.network.error_bars import Covariance, ErrorBars, Seen, never_negative, nsigns_of
from ase_deepdensity.network.posterior import Posterior
from ase_deepdensity.network_runner import NetworkRunner
from ase_deepdensity.predict import Predictor
from ase_deepdensity.snapshot import Snapshot
from ase_deepdensity.training.posterior_scales import ONE_SIGMA, Beyond, factors, shares

LEAST_HELD_OUT = 5
"""Snapshots from which a σ can be told."""
MOST_SNAPSHOTS = 250
"""Of the training data whose errors are looked at: more take long and tell nothing new."""
POINTS = 8000
"""Of a grid, at random, at which the nearest atom is looked for."""
RIDGE = 3.0
"""In units of a held-out system's weight."""
POOLED = 2.0
"""Atoms that the mean over all elements counts as for the mean of one."""
SMALLEST = 1e-5
"""Electrons of an error of which there is a logarithm."""
FOLDS = 10


class ErrorBarError(ValueError):
    """Data or a model from which no error bars can be made."""


@dataclass(frozen=True, eq=False)
class Case:
    """A snapshot as the model sees it, and how wrong it is there."""

    seen: Seen
    error_a: np.ndarray
    """(natoms,) ∫ |ñ − ñ_ref| dr nearest to each atom, electrons."""
    electrons: float
    """∫ ñ_ref dr."""
    compound: str
    """Reduced chemical formula: what is left out together."""
    atoms: Atoms
    """They themselves."""
    matrix_error_aii: list[np.ndarray]
    """For each atom D − D_ref (ni, ni), both spins together."""
    dipole_error_v: np.ndarray | None
    """(3,) e·Å; None: the dipole moment is no property of the atoms."""

    @property
    def nmae(self) -> float:
        """%."""
        return 100 * float(self.error_a.sum()) / self.electrons

    def beyond(self, posterior: Posterior, bars: ErrorBars, expected_a: np.ndarray) -> Beyond:
        """Its errors of D and of the dipole, and what the posterior says of them."""
        whitened = bars.whitened(posterior.network.species, self.seen.features)
        rigidity_al = bars.rigidity(whitened, self.seen.system)
        said = BeyondDensity.of(posterior, rigidity_al, whitened, self.seen.system, self.atoms, expected_a)
        return Beyond(self.atoms.numbers, self.matrix_error_aii, self.dipole_error_v, said)


def with_error_bars(
    model: DensityModel, training: Dataset, held_out: Dataset, *, progress: bool = False
) -> DensityModel:
    """The same model with error bars.

    Parameters
    ----------
    training
        What it was trained on.
    held_out
        Whole systems that took no part in it; best of compounds that did not, either.

    Raises
    ------
    ErrorBarError
        A network whose last layer is not linear; fewer than :data:`LEAST_HELD_OUT` held-out snapshots; elements of the
        model that the training data lack.
    """
    check(model, training, held_out)
    known_t = _cases(model, training, _some(len(training)), 'training data', progress)
    known = list(known_t.values())
    unknown = _unknown(model, held_out, progress)
    formulas = len({case.atoms.symbols.formula.reduce()[0].format('hill') for case in unknown})
    bars = _rigidities(model, training, known_t, progress)
    factor, spread, weights, report, expected_ta = _calibrated(model, bars, known, unknown)
    state = bars.state_dict() | weights
    state['offset_s'] = torch.tensor([float(weights['offset_s'][0]) + factor, spread], dtype=torch.float32)
    tensors, worth = _beyond_density(model, ErrorBars(**state), unknown, expected_ta)
    state, report = state | tensors, report | worth
    about = {'held-out snapshots': len(unknown), 'formulas': formulas, 'σ of ln NMAE': round(spread, 3)}
    card = model.card | {'error bars': about | report}
    return replace(model, card=card, error_bars=ErrorBars(**state))


def with_factors(model: DensityModel, held_out: Dataset, *, progress: bool = False) -> DensityModel:
    """The same model with its error bars, of which those of D and the dipole are made as large as errors are.

    Parameters
    ----------
    held_out
        Whole systems that took no part in its training.

    Raises
    ------
    ErrorBarError
        A model without error bars; too few snapshots.
    """
    bars = model.error_bars
    if bars is None:
        raise ErrorBarError(f'{model.name} has no error bars, which only its training data can give it')
    _check_number(model, held_out)
    cases = _unknown(model, held_out, progress)
    expected_ta = [bars(model.network, case.seen).double().numpy() for case in cases]
    tensors, worth = _beyond_density(model, bars, cases, expected_ta)
    card = model.card | {'error bars': model.card.get('error bars', {}) | worth}
    return replace(model, card=card, error_bars=ErrorBars(**bars.state_dict() | tensors))


def _unknown(model: DensityModel, held_out: Dataset, progress: bool) -> list[Case]:
    """The cases of held-out data; if all are of one compound, each stands for itself."""
    cases = list(_cases(model, held_out, range(len(held_out)), 'held-out data', progress).values())
    if len(cases) < LEAST_HELD_OUT:
        raise ErrorBarError(
            f'{len(cases)} held-out snapshots can be used for the error bars of {model.name}; '
            f'at least {LEAST_HELD_OUT} are needed'
        )
    if len({case.compound for case in cases}) > 1:
        return cases
    return [replace(case, compound=f'{case.compound} {t}') for t, case in enumerate(cases)]


def check(model: DensityModel, training: Dataset, held_out: Dataset) -> None:
    """Refuse what gives no error bars, before any work."""
    try:
        model.network.last_layer()
    except ValueError as error:
        raise ErrorBarError(f'{model.name} can have no error bars: {error}') from None
    _check_number(model, held_out)
    if missing := sorted(set(model.species) - set(training.numbers)):
        names = ', '.join(model.symbols[model.species.index(Z)] for Z in missing)
        raise ErrorBarError(f'the training data lack {names}, which {model.name} knows: give all of its training data')


def _check_number(model: DensityModel, held_out: Dataset) -> None:
    if len(held_out) < LEAST_HELD_OUT:
        raise ErrorBarError(
            f'{len(held_out)} snapshots that took no part in the training of {model.name} are too few for error bars; '
            f'at least {LEAST_HELD_OUT} are needed'
        )


def held_out_part(model: DensityModel, dataset: Dataset) -> tuple[Dataset, Dataset]:
    """The data that a model was trained on as they were split then: what it learned, and what it was validated on.

    Raises
    ------
    ErrorBarError
        It is not that data set.
    """
    config, counts = model.card.get('training'), model.card.get('snapshots')
    if not isinstance(config, dict) or not isinstance(counts, dict) or 'seed' not in config:
        raise ErrorBarError(f'the card of {model.name} does not tell how its data were split: give --held-out')
    number = counts['validation'] if config.get('validation') is None else config['validation']
    if len(dataset) != counts['training'] + counts['validation']:
        raise ErrorBarError(
            f'{model.name} was trained on {counts["training"]} snapshots and validated on {counts["validation"]}; '
            f'these are {len(dataset)}, of which it is not known which were held out: give --held-out'
        )
    return dataset.split(number, seed=config['seed'], compounds=config.get('split') == 'compounds')


def _some(number: int) -> list[int]:
    """Indices of those of so many snapshots whose errors are looked at, ascending."""
    return sorted(np.random.default_rng(0).permutation(number)[:MOST_SNAPSHOTS].tolist())


def _cases(model: DensityModel, dataset: Dataset, which: Sequence[int], what: str, progress: bool) -> dict[int, Case]:
    """By index those of some snapshots for which the model says something at all."""
    predictor = Predictor(model)
    runner = NetworkRunner(model, model.level, predictor.device, predictor.dtype, keeps_features=True)
    cases = {}
    for t in tqdm(which, desc=what, disable=not progress, leave=False):
        snapshot = dataset[t]
        if set(snapshot.atoms.numbers.tolist()) <= set(model.species):
            [(coefficients, _)] = runner([snapshot.atoms], extrapolate=True)
            case = _case(predictor, coefficients, snapshot)
            if case is not None:
                cases[t] = case
    return cases


@torch.no_grad()
def _case(predictor: Predictor, coefficients: AtomsCoefficients, snapshot: Snapshot) -> Case | None:
    reference, atoms = snapshot.density, snapshot.atoms
    try:
        with warnings.catch_warnings(action='ignore'):
            predicted = predictor.density(coefficients, reference.grid)
    except PredictionError:
        return None
    error_R = np.abs(predicted.nt_sR.sum(0) - reference.nt_sR.sum(0))
    total = float(error_R.sum()) * reference.grid.dv
    if len(atoms) == 1:
        error_a = np.array([total])
    else:
        some_R = np.zeros_like(error_R)
        chosen = np.random.default_rng(0).choice(error_R.size, min(POINTS, error_R.size), replace=False)
        some_R.flat[chosen] = error_R.flat[chosen]
        error_a = nearest_sums(reference.grid, atoms, some_R)
        error_a *= total / max(float(error_a.sum()), 1e-300)
    output = coefficients.output
    assert isinstance(output, Coefficients) and coefficients.seen is not None
    system, features = coefficients.seen
    electrons = float(reference.nt_sR.sum()) * reference.grid.dv
    compound = str(atoms.symbols.formula.reduce()[0].format('hill'))
    seen = Seen(system, features, output, torch.from_numpy(coefficients.unfamiliar_a))
    matrix_error_aii = [
        D_sii.sum(0) - its_sii.sum(0) for D_sii, its_sii in zip(predicted.D_asii, reference.D_asii, strict=True)
    ]
    has_dipole = reference.has_matrices and not origin_caveat(reference)
    dipole_error_v = predicted.dipole_moment() - reference.dipole_moment() if has_dipole else None
    return Case(seen, error_a, electrons, compound, atoms, matrix_error_aii, dipole_error_v)


@torch.no_grad()
def _rigidities(model: DensityModel, training: Dataset, known_t: Mapping[int, Case], progress: bool) -> ErrorBars:
    """Error bars without weights yet; of the training data the network has seen ``known_t`` already."""
    covariance = Covariance(model.network)
    runner = NetworkRunner(model, model.level, torch.device('cpu'), torch.float32)
    for case in known_t.values():
        covariance.add(case.seen.features)
    unseen = sorted(set(range(len(training))) - known_t.keys())
    for t in tqdm(unseen, desc='features', disable=not progress, leave=False):
        atoms = training.outline(t).atoms
        if set(atoms.numbers.tolist()) <= set(model.species):
            covariance.add(runner.network.features(runner.system([atoms])))
    log_z: dict[int, list[float]] = {Z: [] for Z in model.species}
    for case in known_t.values():
        for Z, error in zip(case.seen.system.number_a.tolist(), case.error_a, strict=True):
            log_z[Z].append(float(np.log(error + SMALLEST)))
    mean = float(np.mean([value for values in log_z.values() for value in values]))
    usual_zx = [
        [
            (sum(log_z[Z]) + POOLED * mean) / (len(log_z[Z]) + POOLED),
            np.log(max(natoms, 1.0)),
            np.log(model.atom_types[Z].nvalence),
        ]
        for Z, natoms in zip(model.species, covariance.natoms_z.tolist(), strict=True)
    ]
    tensors = covariance.tensors()
    nsigns = nsigns_of(len(tensors['whiten_lcd']) - 1)
    names = 'centre_y', 'scale_y', 'weight_y'
    tensors |= {name: torch.zeros(nsigns) for name in names}
    tensors |= {'matrix_z': torch.zeros(len(model.species)), 'dipole_x': torch.zeros(2)}
    return ErrorBars(**tensors, usual_zx=torch.tensor(usual_zx, dtype=torch.float32), offset_s=torch.zeros(2))


def _calibrated(
    model: DensityModel, bars: ErrorBars, known: Sequence[Case], unknown: Sequence[Case]
) -> tuple[float, float, dict[str, torch.Tensor], dict[str, float], list[np.ndarray]]:
    """ln of a common factor, σ of ln NMAE, the weights, what they are worth; expected errors of the unknown.

    These, (natoms,) electrons of each, are with the factor and with weights that were fitted without them.
    """
    known_y, unknown_y = (
        [bars.signs(model.network, case.seen).double().numpy() for case in cases] for cases in (known, unknown)
    )
    lower_y = np.where(never_negative(len(bars.whiten_lcd) - 1).numpy(), 0.0, -np.inf)
    expected_ta: list[np.ndarray] = [np.empty(0)] * len(unknown)
    folds = _folds(unknown)
    for left_out in folds:
        kept_known, kept_known_y = _without(known, known_y, left_out)
        kept_unknown, kept_unknown_y = _without(unknown, unknown_y, left_out)
        weights = _weights(kept_known, kept_known_y, kept_unknown, kept_unknown_y, lower_y)
        part = ErrorBars(**bars.state_dict() | weights)
        for t, case in enumerate(unknown):
            if case.compound in left_out:
                expected_ta[t] = part(model.network, case.seen).double().numpy()
    log_t = np.array([np.log(c.error_a.sum() / e_a.sum()) for c, e_a in zip(unknown, expected_ta, strict=True)])
    report = _report(unknown, folds, log_t, expected_ta)
    weights = _weights(known, known_y, unknown, unknown_y, lower_y)
    median, spread = _median_and_spread(log_t)
    return median, spread, weights, report, [np.exp(median) * e_a for e_a in expected_ta]


def _beyond_density(
    model: DensityModel, bars: ErrorBars, cases: Sequence[Case], expected_ta: Sequence[np.ndarray]
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Factors of σ of D and of dipoles, and what they are worth."""
    posterior = Posterior(model.network, model.architecture.basis, model.atom_types)
    beyond = [case.beyond(posterior, bars, e_a) for case, e_a in zip(cases, expected_ta, strict=True)]
    compounds = [case.compound for case in cases]
    return factors(beyond, model.species), shares(beyond, compounds, _folds(cases), model.species)


def _median_and_spread(log_t: np.ndarray) -> tuple[float, float]:
    median = float(np.median(log_t))
    return median, float(np.quantile(np.abs(log_t - median), ONE_SIGMA))


def _report(
    cases: Sequence[Case], folds: Sequence[set[str]], log_t: np.ndarray, expected_ta: Sequence[np.ndarray]
) -> dict[str, float]:
    """What error bars are worth for formulas that neither weights nor factor nor σ were fitted to."""
    z_t, ratio_t = np.empty(len(cases)), np.empty(len(cases))
    for left_out in folds:
        out_t = np.array([case.compound in left_out for case in cases])
        median, spread = _median_and_spread(log_t[~out_t])
        ratio_t[out_t] = log_t[out_t] - median
        z_t[out_t] = ratio_t[out_t] / max(spread, SMALLEST)
    true_t, true_a = np.array([case.nmae for case in cases]), np.concatenate([case.error_a for case in cases])
    expected_t = true_t * np.exp(-ratio_t)
    distance_t = [float(case.seen.unfamiliar_a.mean()) for case in cases]
    distance_a = np.concatenate([case.seen.unfamiliar_a.numpy() for case in cases])
    figures = {
        'within 1 σ, %': 100 * np.mean(abs(z_t) < 1),
        'within 2 σ, %': 100 * np.mean(abs(z_t) < 2),
        'within a factor of two, %': 100 * np.mean(abs(ratio_t) < np.log(2)),
        'rank correlation over snapshots': spearmanr(expected_t, true_t)[0],
        'of the mean distance': spearmanr(distance_t, true_t)[0],
        'rank correlation over atoms': spearmanr(np.concatenate(expected_ta), true_a)[0],
        'of the distance': spearmanr(distance_a, true_a)[0],
    }
    return {name: round(float(x), 2) if np.isfinite(x) else 0.0 for name, x in figures.items()}


def _folds(cases: Sequence[Case]) -> list[set[str]]:
    """Formulas that are left out together."""
    compounds = sorted({case.compound for case in cases})
    order = np.random.default_rng(0).permutation(len(compounds))
    folds = [{compounds[i] for i in order[fold::FOLDS]} for fold in range(FOLDS)]
    return [fold for fold in folds if fold]


def _without(
    cases: Sequence[Case], signs_tay: Sequence[np.ndarray], left_out: set[str]
) -> tuple[list[Case], list[np.ndarray]]:
    kept = [t for t, case in enumerate(cases) if case.compound not in left_out]
    return [cases[t] for t in kept], [signs_tay[t] for t in kept]


def _weights(
    known: Sequence[Case],
    known_y: Sequence[np.ndarray],
    unknown: Sequence[Case],
    unknown_y: Sequence[np.ndarray],
    lower_y: np.ndarray,
) -> dict[str, torch.Tensor]:
    """Least squares for ln of the errors of atoms; each system counts as much as another of its kind."""
    cases = [*known, *unknown]
    signs_ay = np.concatenate([*known_y, *unknown_y])
    log_a = np.log(np.concatenate([case.error_a for case in cases]) + SMALLEST)
    share = len(unknown) / max(len(known), 1)
    weight_a = np.concatenate(
        [
            np.full(len(case.error_a), (share if t < len(known) else 1.0) / len(case.error_a))
            for t, case in enumerate(cases)
        ]
    )
    centre_y, deviation_y = signs_ay.mean(0), signs_ay.std(0)
    scale_y = np.where(deviation_y > SMALLEST, 1 / np.maximum(deviation_y, SMALLEST), 0.0)
    mean = float((weight_a * log_a).sum() / weight_a.sum())
    root_a = np.sqrt(weight_a)
    rows_xy = np.concatenate([root_a[:, None] * (signs_ay - centre_y) * scale_y, RIDGE**0.5 * np.eye(len(centre_y))])
    right_x = np.concatenate([root_a * (log_a - mean), np.zeros(len(centre_y))])
    weight_y = lsq_linear(rows_xy, right_x, (lower_y, np.inf)).x
    arrays: dict[str, Any] = {'centre_y': centre_y, 'scale_y': scale_y, 'weight_y': weight_y, 'offset_s': [mean, 0.0]}
    return {name: torch.tensor(np.asarray(x), dtype=torch.float32) for name, x in arrays.items()}
