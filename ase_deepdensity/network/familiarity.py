"""Is an atom's environment like those that the model was trained on?"""

from __future__ import annotations

from collections.abc import Sequence

import torch


class Familiarity:
    """Distance of an environment from the training data, species by species.

    The invariant features x of the training atoms of a species have a mean and a covariance C (shrunk towards its
    diagonal).  The distance √((x − x̄)ᵀ C⁻¹ (x − x̄) / k) is about 1 for atoms like these; it is divided by ``limit``,
    the largest of the training atoms (at least 1), so that above 1 an environment is unlike all that was learned from.

    Parameters
    ----------
    mean_sc
        (nspecies, nfeatures) mean.
    whiten_sck
        (nspecies, nfeatures, k) principal directions over their standard deviations and √k.
    limit_s
        (nspecies,) largest distance of a training atom.
    """

    def __init__(self, mean_sc: torch.Tensor, whiten_sck: torch.Tensor, limit_s: torch.Tensor):
        self.mean_sc = mean_sc
        self.whiten_sck = whiten_sck
        self.limit_s = limit_s

    @classmethod
    def fit(cls, invariants_sac: Sequence[torch.Tensor], shrinkage: float = 0.05, dimensions: int = 16) -> Familiarity:
        """From the invariant features (natoms, nfeatures) of the training atoms of each species.

        Only the ``dimensions`` principal directions are kept: they hold nearly all variance, and the file stays small.
        """
        means, whitens, limits = [], [], []
        for x_ac in invariants_sac:
            x_ac = x_ac.double()
            mean_c = x_ac.mean(0)
            centered_ac = x_ac - mean_c
            variance_k, vector_ck = torch.linalg.eigh(centered_ac.T @ centered_ac / max(len(x_ac) - 1, 1))
            variance_k, vector_ck = variance_k[-dimensions:], vector_ck[:, -dimensions:]
            variance_k = variance_k + shrinkage * variance_k.mean() + 1e-12
            whiten_ck = vector_ck / (variance_k * len(variance_k)).sqrt()
            means.append(mean_c)
            whitens.append(whiten_ck)
            limits.append((centered_ac @ whiten_ck).norm(dim=1).max().clamp(min=1.0))
        return cls(torch.stack(means).float(), torch.stack(whitens).float(), torch.stack(limits).float())

    def __call__(self, invariants_ac: torch.Tensor, slices: Sequence[slice]) -> torch.Tensor:
        """(natoms,) distances in units of the largest of the training atoms."""
        return torch.cat(
            [
                ((invariants_ac[atoms].float() - self.mean_sc[s]) @ self.whiten_sck[s]).norm(dim=1) / self.limit_s[s]
                for s, atoms in enumerate(slices)
            ]
        )

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {'mean_sc': self.mean_sc, 'whiten_sck': self.whiten_sck, 'limit_s': self.limit_s}

    @classmethod
    def from_state_dict(cls, state: dict[str, torch.Tensor]) -> Familiarity:
        return cls(state['mean_sc'], state['whiten_sck'], state['limit_s'])
