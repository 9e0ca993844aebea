"""How wrong is a prediction likely to be, atom by atom?

The last layer is linear in features h of each atom.  What data leave open of its weights is, in a Bayesian picture, the
variance of what it says (last-layer prediction rigidity: F. Bigi, S. Chong, M. Ceriotti, F. Grasselli,
doi:10.1088/2632-2153/ad805f).  For an angular momentum L, an element Z and whitened features z = W_L h,

    u²_L = 1/(2L+1) Σ_m z_m·(Σ_t z_t z_t^T / (2L+1) + 1)⁻¹ z_m,       t over the atoms of Z in the training data,

where W_L comes from all elements together, and the 1 is a prior of one atom with usual features.  Alone it says how
little is known, not how much that matters.  So the absolute error of ñ around an atom, E_a in electrons, is a product
of powers of it and of other signs,

    ln E_a = b + Σ_x w_x x_a + Σ_x w'_x <x>_a + Σ_x w''_x max_a x,

x: ln of the u_L, of the norms of u over all L plain and in units of the outputs' scales, of the distance from the
training data, of the predicted change of the density, and what is usual for the element; mean and maximum are over the
atom and its neighbours.  Weights are from whole systems that took no part in training and from those that did
(:mod:`ase_deepdensity.training.error_bars`); those of u and distances are not negative, so that what is stranger, all
else being equal, never gets a smaller error bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch

from ase_deepdensity.network.contract import Coefficients, DensityNetwork
from ase_deepdensity.network.readout import Features, LastLayer, Readout
from ase_deepdensity.network.system import System

RANK = 24
"""Leading directions of the whitened features of which each element has a covariance of its own."""
FLOOR = 1e-3
"""Of variances, in units of their mean."""
TINY = 1e-3
"""Of distances and norms of which there are logarithms."""
FARTHEST = 5.0
"""Standard deviations from what the weights were fitted to, beyond which a sign counts no more than there."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A system, and all that tells how well it is known."""

    system: System
    features: Features
    """Of the last layer."""
    output: Coefficients
    unfamiliar_a: torch.Tensor
    """(natoms,) distances from the training data."""


class ErrorBars:
    """What a model needs for its error bars.

    Parameters
    ----------
    whiten_lcd
        (lmax+1, n, n) W_L of the n features; leading directions first.
    factor_zlt
        (nspecies, lmax+1, k(k+1)/2) F with F^T F = (Σ z z^T + 1)⁻¹ in the k leading directions: the rows of the lower
        triangle, one after the other.
    usual_zx
        (nspecies, 3) of each element: mean ln E of its training atoms, ln of their number, ln of valence electrons.
    centre_y, scale_y
        (signs,) means of the signs and 1 over their standard deviations.
    weight_y
        (signs,) of what is made of them so.
    offset_s
        (2,) b, and σ of ln NMAE.
    matrix_z
        (nspecies,) what makes σ of atomic matrices (:mod:`.posterior`) as large as their errors.
    dipole_x
        (2,) the same of the dipole moment, of what charges and dipoles of atoms bring, if that is known; zeros where
        nothing is, as in files from before there were these two.

    Raises
    ------
    ValueError
        Numbers that are not finite.
    """

    NAMES: ClassVar[tuple[str, ...]] = (
        'whiten_lcd', 'factor_zlt', 'usual_zx', 'centre_y', 'scale_y', 'weight_y', 'offset_s', 'matrix_z', 'dipole_x',
    )  # fmt: skip

    def __init__(self, **tensors: torch.Tensor):
        for name in self.NAMES:
            if not tensors[name].isfinite().all():
                raise ValueError(f'the error bars hold numbers in {name} that are not finite')
            setattr(self, name, tensors[name])
        self._factor_zlkk = _unpacked(self.factor_zlt)
        self._scale_zl: torch.Tensor | None = None
        self._whitening_cd: dict[tuple[int, int], torch.Tensor] = {}

    whiten_lcd: torch.Tensor
    factor_zlt: torch.Tensor
    usual_zx: torch.Tensor
    centre_y: torch.Tensor
    scale_y: torch.Tensor
    weight_y: torch.Tensor
    offset_s: torch.Tensor
    matrix_z: torch.Tensor
    dipole_x: torch.Tensor

    @property
    def tells_of_matrices(self) -> bool:
        """Is anything known of the errors of atomic matrices?"""
        return bool(self.matrix_z.any())

    @property
    def tells_of_dipoles(self) -> bool:
        """Is anything known of the errors of dipole moments?"""
        return bool(self.dipole_x.any())

    @property
    def spread(self) -> float:
        """σ of ln NMAE."""
        return float(self.offset_s[1])

    def __call__(self, network: DensityNetwork, seen: Seen, rigidity_al: torch.Tensor | None = None) -> torch.Tensor:
        """(natoms,) expected ∫ |ñ − ñ_ref| dr of the points that are nearest to each atom, electrons.

        ``rigidity_al``: what :meth:`rigidity` gives, if it is known already.
        """
        signs_ay = self.signs(network, seen, rigidity_al)
        z_ay = ((signs_ay - self.centre_y) * self.scale_y).clamp(-FARTHEST, FARTHEST)
        return (z_ay @ self.weight_y + self.offset_s[0]).exp()

    def signs(self, network: DensityNetwork, seen: Seen, rigidity_al: torch.Tensor | None = None) -> torch.Tensor:
        """(natoms, signs) those of each atom, their means over it and its neighbours, and their maxima."""
        system, c_lesanm = seen.system, seen.output.c_lesanm
        if rigidity_al is None:
            rigidity_al = self.rigidity(self.whitened(network.species, seen.features), system)
        scale_zl = self._scales_of(network)
        z_a = torch.searchsorted(torch.tensor(network.species), system.number_a.cpu())
        norm_la = torch.stack([c_esanm[:, 0].mean(0).square().sum((1, 2)).cpu().float() for c_esanm in c_lesanm])
        own_ax = torch.stack(
            [
                *(rigidity_al + TINY**2).log().T / 2,
                (rigidity_al.sum(1) + TINY**2).log() / 2,
                ((rigidity_al * scale_zl[z_a]).sum(1) + 1e-30).log() / 2,
                (seen.unfamiliar_a.cpu().float() + TINY).log(),
                (norm_la[0].sqrt() + TINY).log(),
                (norm_la[1:].sum(0).sqrt() + TINY).log(),
                (scale_zl[z_a].sum(1) + 1e-30).log() / 2,
                *self.usual_zx[z_a].T,
            ],
            dim=1,
        )
        return _with_neighbours(own_ax, system, network.cutoff)

    def _scales_of(self, network: DensityNetwork) -> torch.Tensor:
        """Those of the network that the error bars belong to, which do not change."""
        if self._scale_zl is None:
            self._scale_zl = scales(network.last_layer(), network.species)
        return self._scale_zl

    def rigidity(self, whitened: Features, system: System) -> torch.Tensor:
        """(natoms, lmax+1) u²."""
        u_al = torch.zeros(system.natoms, len(self.whiten_lcd))
        for (Z, L, _), z_mac in whitened.items():
            u_al[system.atoms_of(Z).cpu(), L] = z_mac.square().sum(-1).mean(0)
        return u_al

    def whitened(self, species: Sequence[int], features: Features) -> Features:
        """F z of the features of natural parity, whose squares add up to u²."""
        return {
            (Z, L, pseudo): h_mac.cpu().float() @ self._whitening(species.index(Z), L)
            for (Z, L, pseudo), h_mac in features.items()
            if not pseudo and L < len(self.whiten_lcd)
        }

    def _whitening(self, z: int, L: int) -> torch.Tensor:
        """(n, n) what makes F z of the features of an element."""
        if (z, L) not in self._whitening_cd:
            W_cd, nown = self.whiten_lcd[L], self._factor_zlkk.shape[-1]
            rest_cd = W_cd[:, nown:] / (1 + self.usual_zx[z, 1].exp()).sqrt()
            self._whitening_cd[z, L] = torch.cat([W_cd[:, :nown] @ self._factor_zlkk[z, L].T, rest_cd], dim=1)
        return self._whitening_cd[z, L]

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {name: getattr(self, name) for name in self.NAMES}

    @classmethod
    def from_state_dict(cls, state: dict[str, torch.Tensor], network: DensityNetwork) -> Self:
        """What :meth:`state_dict` has made, for a network.

        Raises
        ------
        ValueError
            Tensors that are missing, too many or do not fit each other or the network; numbers that are not finite.
        """
        nspecies = len(network.species)
        state = {'matrix_z': torch.zeros(nspecies), 'dipole_x': torch.zeros(2)} | state
        if state.keys() != set(cls.NAMES):
            raise ValueError(f'error bars have the tensors {sorted(state)}, not {sorted(cls.NAMES)}')
        channels, lmax = _sizes(network.last_layer())
        nown, nsigns = min(RANK, channels), nsigns_of(lmax)
        shapes = {
            'whiten_lcd': (lmax + 1, channels, channels),
            'factor_zlt': (nspecies, lmax + 1, nown * (nown + 1) // 2),
            'usual_zx': (nspecies, 3),
            **dict.fromkeys(('centre_y', 'scale_y', 'weight_y'), (nsigns,)),
            'offset_s': (2,),
            'matrix_z': (nspecies,),
            'dipole_x': (2,),
        }
        for name, shape in shapes.items():
            if tuple(state[name].shape) != shape:
                raise ValueError(f'error_bars.{name} is {tuple(state[name].shape)}, which should be {shape}')
        return cls(**state)


def _unpacked(factor_zlt: torch.Tensor) -> torch.Tensor:
    """(…, k, k) of the rows of lower triangles."""
    size = int((2 * factor_zlt.shape[-1] + 0.25) ** 0.5 - 0.5)
    row_t, column_t = torch.tril_indices(size, size)
    factor_zlkk = factor_zlt.new_zeros(*factor_zlt.shape[:-1], size, size)
    factor_zlkk[..., row_t, column_t] = factor_zlt
    return factor_zlkk


def nsigns_of(lmax: int) -> int:
    """Number of signs, those of neighbours included."""
    return 3 * (lmax + 1 + 9)


def never_negative(lmax: int) -> torch.Tensor:
    """(signs,) which weights must not be negative: those of u and distances."""
    return torch.tensor(([True] * (lmax + 1 + 3) + [False] * 6) * 3)


def scales(layer: LastLayer, species: Sequence[int]) -> torch.Tensor:
    """(nspecies, lmax+1) Σ s² of the outputs that write the density."""
    lmax = _sizes(layer)[1]
    return torch.tensor(
        [[_square(layer.readouts[Z, L, False]) for L in range(lmax + 1)] for Z in species],
        dtype=torch.float32,
    )


def _square(readout: Readout) -> float:
    """Σ s² of the outputs that write the density."""
    return float(readout.scale_o[: readout.functions].double().square().sum())


def _sizes(layer: LastLayer) -> tuple[int, int]:
    """Number of features, and the largest L of those that write the density."""
    lmax = max(L for (_, L, pseudo), readout in layer.readouts.items() if not pseudo and readout.functions)
    return next(r.channels for (_, _, pseudo), r in layer.readouts.items() if not pseudo), lmax


def _with_neighbours(x_ax: torch.Tensor, system: System, cutoff: float) -> torch.Tensor:
    """(natoms, 3·signs): those of atoms, and their means and maxima over each and its neighbours."""
    x_ax = x_ax[: len(system.neighbor_ak)]
    near_ak = system.vector_akv.detach().norm(dim=2).cpu() < 0.999 * cutoff
    own_ak = torch.arange(len(x_ax))[:, None]
    index_ak = torch.cat([own_ak, torch.where(near_ak, system.neighbor_ak.cpu(), own_ak)], dim=1)
    weight_ak = torch.cat([torch.ones(len(x_ax), 1), near_ak.float()], dim=1)
    x_akx = x_ax[index_ak]
    mean_ax = torch.einsum('ak, akx -> ax', weight_ak, x_akx) / weight_ak.sum(1)[:, None]
    return torch.cat([x_ax, mean_ax, x_akx.amax(1)], dim=1)


class Covariance:
    """Second moments of features, summed atom by atom; made into what :class:`ErrorBars` holds."""

    def __init__(self, network: DensityNetwork):
        self.species = network.species
        channels, lmax = _sizes(network.last_layer())
        self.sum_zlcc = torch.zeros(len(self.species), lmax + 1, channels, channels, dtype=torch.float64)
        self.natoms_z = torch.zeros(len(self.species), dtype=torch.float64)

    def add(self, features: Features) -> None:
        """Those of a training system."""
        for (Z, L, pseudo), h_mac in features.items():
            if pseudo or L >= self.sum_zlcc.shape[1]:
                continue
            z, h_rc = self.species.index(Z), h_mac.flatten(0, 1).double().cpu()
            self.sum_zlcc[z, L] += h_rc.T @ h_rc / (2 * L + 1)
            if L == 0:
                self.natoms_z[z] += h_mac.shape[1]

    def tensors(self) -> dict[str, torch.Tensor]:
        """W_L and F of each element."""
        mean_lcc = self.sum_zlcc.sum(0) / self.natoms_z.sum().clamp(min=1)
        variance_lc, vector_lcd = torch.linalg.eigh(mean_lcc)
        variance_ld, vector_lcd = variance_lc.flip(1), vector_lcd.flip(2)
        floor_ld = FLOOR * variance_ld.mean(1, keepdim=True) + 1e-12
        whiten_lcd = vector_lcd / (variance_ld.clamp(min=0) + floor_ld).sqrt()[:, None]
        leading_lck = whiten_lcd[..., :RANK]
        own_zlkk = torch.einsum('lck, zlcd, ldj -> zlkj', leading_lck, self.sum_zlcc, leading_lck)
        own_zlkk = own_zlkk + torch.eye(leading_lck.shape[-1], dtype=torch.float64)
        factor_zlkk = torch.linalg.inv(torch.linalg.cholesky(own_zlkk))
        row_t, column_t = torch.tril_indices(*factor_zlkk.shape[-2:])
        return {'whiten_lcd': whiten_lcd.float(), 'factor_zlt': factor_zlkk[..., row_t, column_t].float()}
