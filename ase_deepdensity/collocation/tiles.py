"""Which atoms reach which part of a grid: pairs of an atom and a tile of points, found on the device of the positions.

A block of a grid is cut into tiles of 4 × 4 × 8 points.  Along a periodic axis tiles are counted on through all images
of the block, so that what an atom reaches are neighbours: its *window*.  How wide that may be follows from the grid;
memory for as many pairs is taken, and nothing has to be read back before the pairs are sorted by tile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import ceil, floor, prod

import numpy as np
import torch

from ase_deepdensity.grid import Grid

SHAPE = 4, 4, 8
"""Points of a tile along each axis."""
SLACK = 1.0001
"""What tiles are looked for in is larger than the reach of an atom by this factor: it is done in single precision."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """Pairs of an atom and a tile, by atom and by tile; the tensors are on the device of the positions."""

    number_c: tuple[int, ...]
    """Tiles along each axis."""
    window_c: tuple[int, ...]
    """Tiles that an atom reaches at most along each axis, images counted."""
    origin_ac: torch.Tensor
    """(natoms, 3) from the grid point nearest to each atom to the first one of the first image of the block, int64."""
    away_ac: torch.Tensor
    """(natoms, 3) from that grid point to the atom, in grid steps, of the dtype of the work."""
    first_ac: torch.Tensor
    """(natoms, 3) the first tile of the window, images counted, from 0 on, int64."""
    count_ac: torch.Tensor
    """(natoms, 3) how many tiles of the window an atom does reach, int64."""
    pair_y: torch.Tensor
    """Atom × window + place in its window, of the pairs in the order of their tiles, int64; at the end those that are
    none."""
    start_k: torch.Tensor
    """(tiles + 1,) where the pairs of each tile begin, int64."""

    @property
    def number(self) -> int:
        """All tiles."""
        return prod(self.number_c)

    @classmethod
    def of(cls, grid: Grid, position_av: torch.Tensor, cutoff: float, dtype: torch.dtype) -> Tiles:
        """Tiles of a grid, or of a block of one, that has points.

        Parameters
        ----------
        position_av
            (natoms, 3) Å, float64.
        cutoff
            How far atoms reach, Å.
        dtype
            Of the work.
        """
        device = position_av.device
        half_c = [SLACK * cutoff / h for h in grid.spacing_c.tolist()]
        number_c = tuple(-(-n // width) for n, width in zip(grid.shape, SHAPE, strict=True))
        window_c = tuple(_window(grid, c, half_c[c], number_c[c]) for c in range(3))
        periods_c = [_periods(grid, c, half_c[c]) for c in range(3)]
        s_ac = position_av @ torch.tensor(np.linalg.inv(grid.step_cv)).to(position_av)
        wrapped_ac = torch.remainder(s_ac, torch.tensor(np.array(grid.size_c), device=device))
        s_ac = torch.where(torch.tensor(grid.zerobc_c, device=device), s_ac, wrapped_ac)
        nearest_ac = s_ac.round().long()
        ends_cxa = [_reached(grid, c, s_ac[:, c], half_c[c], number_c[c], periods_c[c]) for c in range(3)]
        first_ac, last_ac = (torch.stack(end_ca, 1) for end_ca in zip(*ends_cxa, strict=True))
        origin_c = np.array(grid.start_c) - np.array(periods_c) * grid.size_c
        tiles = cls(
            number_c=number_c,
            window_c=window_c,
            origin_ac=torch.tensor(origin_c, device=device) - nearest_ac,
            away_ac=(s_ac - nearest_ac).to(dtype),
            first_ac=first_ac,
            count_ac=(last_ac - first_ac + 1).clamp(min=0).minimum(torch.tensor(window_c, device=device)),
            pair_y=torch.empty(0),
            start_k=torch.empty(0),
        )
        tile_ay = tiles._tile_of_pairs(grid, SLACK * cutoff)
        tile_y, pair_y = tile_ay.flatten().sort(stable=True)  # the atoms of a tile in their order: sums are the same
        start_k = torch.searchsorted(tile_y, torch.arange(tiles.number + 1, device=device, dtype=tile_y.dtype))
        return replace(tiles, pair_y=pair_y, start_k=start_k)

    def _tile_of_pairs(self, grid: Grid, reach: float) -> torch.Tensor:
        """(natoms, window) which tile stands at each place of an atom's window, and ``number`` where none is near."""
        device, natoms = self.away_ac.device, len(self.away_ac)
        step_cv = grid.step_cv
        tile_ay = torch.zeros((natoms, 1, 1, 1), dtype=torch.int32, device=device)
        is_pair_ay = torch.ones((natoms, 1, 1, 1), dtype=torch.bool, device=device)
        distance_vay = [torch.zeros((natoms, 1, 1, 1), device=device) for _ in range(3)]
        for c in range(3):
            w_w = torch.arange(self.window_c[c], device=device)
            u_aw = self.first_ac[:, c, None] + w_w
            period_aw = torch.div(u_aw, self.number_c[c], rounding_mode='floor')
            k_aw = u_aw - period_aw * self.number_c[c]
            steps_aw = self.origin_ac[:, c, None] + period_aw * int(grid.size_c[c]) + k_aw * SHAPE[c]
            centre_aw = steps_aw.float() + (SHAPE[c] - 1) / 2
            shape = [natoms, 1, 1, 1]
            shape[c + 1] = self.window_c[c]
            s_ay = (centre_aw - self.away_ac[:, c, None].float()).view(shape)
            distance_vay = [d_ay + s_ay * float(step_cv[c, v]) for v, d_ay in enumerate(distance_vay)]
            tile_ay = tile_ay * self.number_c[c] + k_aw.int().view(shape)
            is_pair_ay = is_pair_ay & (w_w < self.count_ac[:, c, None]).view(shape)
        r2_ay = distance_vay[0].square() + distance_vay[1].square() + distance_vay[2].square()
        is_pair_ay = is_pair_ay & (r2_ay <= (reach + SLACK * _radius(step_cv)) ** 2)
        return torch.where(is_pair_ay, tile_ay, self.number).view(natoms, prod(self.window_c))


def _reached(
    grid: Grid, c: int, s_a: torch.Tensor, half: float, number: int, periods: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The first and the last tile along an axis with points within ``half`` steps of ``s_a``, images counted."""
    start, stop, size = int(grid.start_c[c]), int(grid.stop_c[c]), int(grid.size_c[c])
    first_a, last_a = (s_a - half).ceil().long(), (s_a + half).floor().long()
    if grid.zerobc_c[c]:
        first_a, last_a = first_a.clamp(min=start), last_a.clamp(max=stop - 1)
        return (
            torch.div(first_a - start, SHAPE[c], rounding_mode='floor'),
            torch.div(last_a - start, SHAPE[c], rounding_mode='floor'),
        )
    period_a = torch.div(first_a, size, rounding_mode='floor')
    i_a = first_a - period_a * size
    k_a = torch.div(i_a - start, SHAPE[c], rounding_mode='floor').clamp(min=0)
    k_a = torch.where(i_a >= stop, number, k_a)  # the first one of the next image
    u_first_a = (period_a + periods) * number + k_a
    period_a = torch.div(last_a, size, rounding_mode='floor')
    i_a = last_a - period_a * size
    k_a = torch.div(i_a - start, SHAPE[c], rounding_mode='floor').clamp(min=-1, max=number - 1)
    return u_first_a, (period_a + periods) * number + k_a


def _periods(grid: Grid, c: int, half: float) -> int:
    """How many images of the block along an axis come before the block itself and may be within ``half`` steps."""
    return 0 if grid.zerobc_c[c] else ceil(half / int(grid.size_c[c])) + 1


def _window(grid: Grid, c: int, half: float, number: int) -> int:
    """How many tiles along an axis the points within ``half`` steps of any place belong to, at most."""
    length, size = floor(2 * half), int(grid.size_c[c])
    if grid.zerobc_c[c]:
        return min(number, ceil(length / SHAPE[c]) + 1)
    whole, rest = divmod(length, size)
    return whole * number + min(number, ceil(rest / SHAPE[c]) + 1) + 1  # the last one of an image may be narrow


def _radius(step_cv: np.ndarray) -> float:
    """Half of the longest diagonal of a tile, Å."""
    ends_cv = step_cv * (np.array(SHAPE)[:, None] - 1) / 2
    return max(float(np.linalg.norm(np.array(signs) @ ends_cv)) for signs in product((-1, 1), repeat=3))
