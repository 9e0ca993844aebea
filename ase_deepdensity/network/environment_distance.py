"""Is an atom's environment like those that the model was trained on?  Mahalanobis distances of latent features."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import ClassVar, Self

import torch

from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.system import System

POOLED_ATOMS, FEW_ATOMS = 5.0, 20.0
"""Atoms that the statistics of all species count as for a species with hardly any of its own, and how many of its own
let that fade (exponentially)."""
MOST_NUMBERS = 2**18
"""In the directions of all species together: 1 MB."""
LEAST_DIMENSIONS = 8


class EnvironmentDistance:
    """Distance of an environment from the training environments of its species, in any direction.

    The invariant features x of an atom are compared with those of the training atoms of its species: mean, covariance
    along its leading directions e_k, and one variance σ² for all that is outside of them (a Mahalanobis distance with
    a covariance of low rank plus a multiple of 1):

        d² = 1/n Σ_k (e_k·(x − mean))² / λ_k + 1/n |rest|² / σ²,   n features, divided by their standard deviations.

    Every λ and σ² has a floor: what never varied in training counts for much as soon as it does.  The distance is
    divided by ``limit``, what 9 of 10 training atoms stay below where the covariance is that of the others.

    Parameters
    ----------
    mean_sc
        (nspecies, n) mean.
    scale_sc
        (nspecies, n) 1 over standard deviation.
    whiten_sck
        (nspecies, n, k) e_k over √(n λ_k).
    outside_s
        (nspecies,) 1/(n σ²).
    limit_s
        (nspecies,) what counts as near.

    Raises
    ------
    ValueError
        Numbers that are not finite.
    """

    NAMES: ClassVar[tuple[str, ...]] = 'mean_sc', 'scale_sc', 'whiten_sck', 'outside_s', 'limit_s'

    def __init__(self, **tensors: torch.Tensor):
        for name in self.NAMES:
            if not tensors[name].isfinite().all():
                raise ValueError(f'the distance from the training data holds numbers in {name} that are not finite')
            setattr(self, name, tensors[name])

    mean_sc: torch.Tensor
    scale_sc: torch.Tensor
    whiten_sck: torch.Tensor
    outside_s: torch.Tensor
    limit_s: torch.Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, network: DensityNetwork, systems: Sequence[System]) -> EnvironmentDistance:
        """From the environments in some systems, which must hold all elements of the network."""
        return cls.fit(invariants_by_species(network, systems))

    @classmethod
    def fit(cls, invariants_zac: Sequence[torch.Tensor], *, dimensions: int = 96, floor: float = 1e-3) -> Self:
        """From the invariant features (natoms, n) of the training atoms of each species.

        What few atoms of a species cannot tell is taken from the pooled covariance of all species, see
        :data:`POOLED_ATOMS`.

        Parameters
        ----------
        dimensions
            Leading directions that are kept, at most; of many species less (``MOST_NUMBERS``).
        floor
            Of the variances, in units of their mean.
        """
        if not all(x_ac.isfinite().all() for x_ac in invariants_zac):
            raise ValueError('the features of the training atoms are not finite')
        x_zac = [x_ac.double() for x_ac in invariants_zac]
        n = x_zac[0].shape[1]
        dimensions = min(dimensions, max(LEAST_DIMENSIONS, MOST_NUMBERS // (len(x_zac) * n)))
        centred_ac = torch.cat([x_ac - x_ac.mean(0) for x_ac in x_zac])
        pooled_cc = centred_ac.T @ centred_ac / len(centred_ac)
        fits = [_fit_species(x_ac, pooled_cc, dimensions, floor) for x_ac in x_zac]
        pooled_square = torch.cat([square_a for _, square_a in fits]).quantile(0.9)
        parts = [part | {'limit_s': _limit(square_a, pooled_square)} for part, square_a in fits]
        return cls(**{name: torch.stack([part[name] for part in parts]).float() for name in cls.NAMES})

    @classmethod
    def together(cls, rows: Sequence[tuple[EnvironmentDistance, int]]) -> Self:
        """Species of several as one: of each row (a distance, and which of its species)."""
        most = max(distance.whiten_sck.shape[2] for distance, _ in rows)
        states = []
        for distance, z in rows:
            state = {name: x_sx[z].float() for name, x_sx in distance.state_dict().items()}
            missing = most - state['whiten_sck'].shape[1]
            states.append(state | {'whiten_sck': torch.nn.functional.pad(state['whiten_sck'], (0, missing))})
        return cls(**{name: torch.stack([state[name] for state in states]) for name in cls.NAMES})

    def __call__(self, invariants_ac: torch.Tensor, rows_z: Sequence[slice | torch.Tensor]) -> torch.Tensor:
        """(natoms,) distances in units of those of the training atoms; not finite where the features are not.

        ``rows_z``: for each species of the network which rows of ``invariants_ac`` (natoms, n) are its atoms.
        """
        distance_a = invariants_ac.new_zeros(len(invariants_ac), dtype=torch.float32)
        for z, rows in enumerate(rows_z):
            if len(x_ac := invariants_ac[rows]):
                distance_a[rows] = self._distances(x_ac.float(), z)
        return distance_a

    def _distances(self, x_ac: torch.Tensor, s: int) -> torch.Tensor:
        x_ac = (x_ac - self.mean_sc[s]) * self.scale_sc[s]
        z_ak = x_ac @ self.whiten_sck[s]
        along_ak = z_ak / self.whiten_sck[s].norm(dim=0).clamp(min=1e-30)  # directions of length zero fill up
        rest_a = (x_ac.square().sum(1) - along_ak.square().sum(1)).clamp(min=0)
        return (z_ak.square().sum(1) + rest_a * self.outside_s[s]).sqrt() / self.limit_s[s]

    def in_units_of(self, distance: float) -> EnvironmentDistance:
        """The same where a distance that was ``distance`` is 1."""
        return type(self)(**self.state_dict() | {'limit_s': self.limit_s * distance})

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {name: getattr(self, name) for name in self.NAMES}

    @classmethod
    def from_state_dict(
        cls, state: dict[str, torch.Tensor], nspecies: int | None = None, nfeatures: int | None = None
    ) -> EnvironmentDistance:
        """What :meth:`state_dict` of this version or an older one has made; for so many species and features, if given.

        Raises
        ------
        ValueError
            Tensors that are missing, too many or do not fit each other, or numbers that are not finite.
        """
        kind = NearestNeighborDistance if 'kept_sxk' in state else cls
        if state.keys() != set(kind.NAMES):
            raise ValueError(f'familiarity has the tensors {sorted(state)}, not {sorted(kind.NAMES)}')
        sizes = {} if nspecies is None else {'s': nspecies}
        if nfeatures is not None:
            sizes['c'] = kind._own_features(state, nfeatures)
        for name in kind.NAMES:
            axes, shape = name.rpartition('_')[2], tuple(state[name].shape)  # a name tells its axes
            fits = len(shape) == len(axes) and 0 not in shape
            if not fits or any(sizes.setdefault(axis, n) != n for axis, n in zip(axes, shape, strict=True)):
                raise ValueError(f'familiarity.{name} has the shape {shape}, where {sizes} is known of its axes {axes}')
        if not (state['limit_s'] > 0).all():
            raise ValueError(f'familiarity.limit_s must be positive, not {state["limit_s"].tolist()}')
        return kind(**state)

    @staticmethod
    def _own_features(state: dict[str, torch.Tensor], nfeatures: int) -> int:
        """How many of the features of an atom are looked at."""
        return nfeatures


def invariants_by_species(network: DensityNetwork, systems: Sequence[System]) -> list[torch.Tensor]:
    """The invariant features (natoms, n) of all atoms of each species in some systems."""
    parts_z: list[list[torch.Tensor]] = [[] for _ in network.species]
    for system in systems:
        x_ac = network(system).invariants_ac
        for z, number in enumerate(network.species):
            parts_z[z].append(x_ac[system.atoms_of(number)].cpu())
    return [torch.cat(parts) for parts in parts_z]


class NearestNeighborDistance(EnvironmentDistance):
    """What files of the first versions hold: distances from the nearest of some training environments.

    They are measured along the leading directions of the network's own features only, and may miss what is new.

    Parameters
    ----------
    mean_sc
        (nspecies, n) mean; the first n features are used.
    whiten_sck
        (nspecies, n, k) principal directions over their standard deviations and √k.
    kept_sxk
        (nspecies, nkept, k) training environments, projected.
    limit_s
        (nspecies,) what counts as near.
    """

    NAMES = 'mean_sc', 'whiten_sck', 'kept_sxk', 'limit_s'
    kept_sxk: torch.Tensor

    @staticmethod
    def _own_features(state: dict[str, torch.Tensor], nfeatures: int) -> int:
        return min(state['mean_sc'].shape[-1], nfeatures)

    def _distances(self, x_ac: torch.Tensor, s: int) -> torch.Tensor:
        z_ak = (x_ac[:, : self.mean_sc.shape[1]] - self.mean_sc[s]) @ self.whiten_sck[s]
        return torch.cdist(z_ak, self.kept_sxk[s]).amin(1) / self.limit_s[s]


def _fit_species(
    x_ac: torch.Tensor, pooled_cc: torch.Tensor, dimensions: int, floor: float
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The tensors of one species but for the limit, and squared distances (natoms,) of its atoms from the others."""
    natoms, n = x_ac.shape
    pooled = _pooled_atoms(natoms)
    mean_c, total = x_ac.mean(0), natoms + pooled
    variance_c = (natoms * x_ac.var(0, correction=0) + pooled * pooled_cc.diagonal()) / total
    std_c = variance_c.sqrt()
    scale_c = 1 / std_c.clamp(min=max(0.01 * float(std_c.median()), 1e-6))
    y_ac = (x_ac - mean_c) * scale_c
    covariance_cc = (y_ac.T @ y_ac + pooled * pooled_cc * scale_c * scale_c[:, None]) / total
    variance_k, vector_ck = torch.linalg.eigh(covariance_cc)
    least = floor * float(variance_k.mean()) + 1e-6
    outside = float(variance_k[:-dimensions].clamp(min=0).sum()) / max(n - dimensions, 1) + least
    variance_k, vector_ck = variance_k[-dimensions:] + least, vector_ck[:, -dimensions:]
    whiten_ck = vector_ck / (n * variance_k).sqrt()
    square_a = (y_ac @ whiten_ck).square().sum(1)
    square_a += (y_ac.square().sum(1) - (y_ac @ vector_ck).square().sum(1)).clamp(min=0) / (n * outside)
    leverage_a = (square_a * n / total).clamp(max=0.98)  # of each atom in its own covariance
    part = {
        'mean_sc': mean_c,
        'scale_sc': scale_c,
        'whiten_sck': whiten_ck,
        'outside_s': torch.tensor(1 / (n * outside)),
    }
    return part, square_a / (1 - leverage_a)


def _pooled_atoms(natoms: int) -> float:
    """What the statistics of all species count as."""
    return POOLED_ATOMS * exp(-natoms / FEW_ATOMS)


def _limit(square_a: torch.Tensor, pooled_square: torch.Tensor) -> torch.Tensor:
    """What 9 of 10 atoms stay below; of few atoms more and more that of all species."""
    natoms, pooled = len(square_a), _pooled_atoms(len(square_a))
    mixed = (natoms * square_a.quantile(0.9) + pooled * pooled_square) / (natoms + pooled)
    return mixed.sqrt().clamp(min=1e-3)
