"""Is an atom's environment like those that the model was trained on?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


class Familiarity:
    """Distance of an environment from the nearest training environments, species by species.

    The invariant features of an atom are projected onto the principal directions of the training atoms of its species
    and divided by their standard deviations.  Of the training atoms some are kept, each the farthest from those before.
    The distance to the nearest of them is divided by ``limit``, the largest of any training atom that was not kept, or
    the median of those that were, whichever is larger: well above 1 an environment is unlike all that was learned from.

    Parameters
    ----------
    mean_sc
        (nspecies, nfeatures) mean.
    whiten_sck
        (nspecies, nfeatures, k) principal directions over their standard deviations and √k.
    kept_sxk
        (nspecies, nkept, k) training environments, projected.
    limit_s
        (nspecies,) what counts as near.
    """

    NAMES = 'mean_sc', 'whiten_sck', 'kept_sxk', 'limit_s'

    def __init__(self, mean_sc: torch.Tensor, whiten_sck: torch.Tensor, kept_sxk: torch.Tensor, limit_s: torch.Tensor):
        self.mean_sc = mean_sc
        self.whiten_sck = whiten_sck
        self.kept_sxk = kept_sxk
        self.limit_s = limit_s

    @classmethod
    def fit(
        cls,
        invariants_sac: Sequence[torch.Tensor],
        *,
        dimensions: int = 16,
        number: int = 256,
        shrinkage: float = 0.01,
    ) -> Familiarity:
        """From the invariant features (natoms, nfeatures) of the training atoms of each species."""
        means, whitens, kept, limits = [], [], [], []
        for x_ac in invariants_sac:
            mean_c, whiten_ck = _principal_directions(x_ac.double(), dimensions, shrinkage)
            z_ak = (x_ac.double() - mean_c) @ whiten_ck
            chosen, limit = _farthest_points(z_ak, number)
            means.append(mean_c)
            whitens.append(whiten_ck)
            kept.append(z_ak[chosen])
            limits.append(torch.tensor(limit))
        return cls(*(torch.stack(parts).float() for parts in (means, whitens, kept, limits)))

    def __call__(self, invariants_ac: torch.Tensor, slices: Sequence[slice]) -> torch.Tensor:
        """(natoms,) distances in units of the largest of the training atoms."""
        return torch.cat([self._distances(invariants_ac[atoms].float(), s) for s, atoms in enumerate(slices)])

    def _distances(self, x_ac: torch.Tensor, s: int) -> torch.Tensor:
        z_ak = (x_ac - self.mean_sc[s]) @ self.whiten_sck[s]
        if len(z_ak) == 0:
            return z_ak.new_zeros(0)
        return torch.cdist(z_ak, self.kept_sxk[s]).amin(1) / self.limit_s[s]

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {name: getattr(self, name) for name in self.NAMES}

    @classmethod
    def from_state_dict(
        cls, state: dict[str, torch.Tensor], nspecies: int | None = None, nfeatures: int | None = None
    ) -> Familiarity:
        """What :meth:`state_dict` has made; for a network with so many species and invariant features, if given.

        Raises
        ------
        ValueError
            Tensors that are missing, too many, or do not fit.
        """
        if state.keys() != set(cls.NAMES):
            raise ValueError(f'familiarity has the tensors {sorted(state)}, not {sorted(cls.NAMES)}')
        k, nkept = state['whiten_sck'].shape[-1], state['kept_sxk'].shape[1]
        nspecies = len(state['limit_s']) if nspecies is None else nspecies
        nfeatures = state['mean_sc'].shape[-1] if nfeatures is None else nfeatures
        shapes = (nspecies, nfeatures), (nspecies, nfeatures, k), (nspecies, nkept, k), (nspecies,)
        for name, shape in zip(cls.NAMES, shapes, strict=True):
            if tuple(state[name].shape) != shape or 0 in shape:
                raise ValueError(f'familiarity.{name} has the shape {tuple(state[name].shape)}, not {shape}')
        if not (state['limit_s'] > 0).all():
            raise ValueError(f'familiarity.limit_s must be positive, not {state["limit_s"].tolist()}')
        return cls(*(state[name] for name in cls.NAMES))


def _principal_directions(x_ac: torch.Tensor, dimensions: int, shrinkage: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (nfeatures,) and the leading directions (nfeatures, k) over their standard deviations and √k."""
    mean_c = x_ac.mean(0)
    centered_ac = x_ac - mean_c
    variance_k, vector_ck = torch.linalg.eigh(centered_ac.T @ centered_ac / max(len(x_ac) - 1, 1))
    variance_k, vector_ck = variance_k[-dimensions:], vector_ck[:, -dimensions:]
    variance_k = variance_k + shrinkage * variance_k.mean() + 1e-12
    return mean_c, vector_ck / (variance_k * len(variance_k)).sqrt()


def _farthest_points(z_ak: torch.Tensor, number: int) -> tuple[torch.Tensor, float]:
    """Indices of ``number`` points, each the farthest from those before, and the limit of what counts as near them.

    With fewer points than ``number``, some stand more than once.
    """
    chosen = [int(z_ak.square().sum(1).argmin())]
    distance_a = (z_ak - z_ak[chosen[0]]).norm(dim=1)
    apart = []  # of each point from those before it
    while len(chosen) < number:
        apart.append(float(distance_a.max()))
        chosen.append(int(distance_a.argmax()))
        distance_a = torch.minimum(distance_a, (z_ak - z_ak[chosen[-1]]).norm(dim=1))
    apart = [distance for distance in apart if distance > 0] or [1.0]
    return torch.tensor(chosen), max(float(distance_a.max()), float(np.median(apart)))
