"""Is an atom's environment like those that the model was trained on?  Mahalanobis distances of latent features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.system import System


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
    def fit(
        cls, invariants_zac: Sequence[torch.Tensor], *, dimensions: int = 96, floor: float = 1e-3
    ) -> EnvironmentDistance:
        """From the invariant features (natoms, n) of the training atoms of each species.

        Parameters
        ----------
        dimensions
            Leading directions that are kept.
        floor
            Of the variances, in units of their mean.
        """
        parts = [_fit_species(x_ac.double(), dimensions, floor) for x_ac in invariants_zac]
        return cls(**{name: torch.stack([part[name] for part in parts]).float() for name in cls.NAMES})

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
        along_ak = z_ak / self.whiten_sck[s].norm(dim=0)
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


def _fit_species(x_ac: torch.Tensor, dimensions: int, floor: float) -> dict[str, torch.Tensor]:
    """The tensors of one species."""
    if not x_ac.isfinite().all():
        raise ValueError('the features of the training atoms are not finite')
    natoms, n = x_ac.shape
    mean_c, std_c = x_ac.mean(0), x_ac.std(0, correction=0)
    scale_c = 1 / std_c.clamp(min=max(0.01 * float(std_c.median()), 1e-6))
    y_ac = (x_ac - mean_c) * scale_c
    variance_k, vector_ck = torch.linalg.eigh(y_ac.T @ y_ac / natoms)
    least = floor * float(variance_k.mean()) + 1e-6
    outside = float(variance_k[:-dimensions].clamp(min=0).sum()) / max(n - dimensions, 1) + least
    variance_k, vector_ck = variance_k[-dimensions:] + least, vector_ck[:, -dimensions:]
    whiten_ck = vector_ck / (n * variance_k).sqrt()
    square_a = (y_ac @ whiten_ck).square().sum(1)
    square_a += (y_ac.square().sum(1) - (y_ac @ vector_ck).square().sum(1)).clamp(min=0) / (n * outside)
    leverage_a = (square_a * n / natoms).clamp(max=0.98)  # of each atom in its own covariance
    limit = (square_a / (1 - leverage_a)).sqrt().quantile(0.9).clamp(min=1e-3)
    return {
        'mean_sc': mean_c,
        'scale_sc': scale_c,
        'whiten_sck': whiten_ck,
        'outside_s': torch.tensor(1 / (n * outside)),
        'limit_s': limit,
    }
