"""Is a seed one for a calculation?  All in which the levels of theory differ, named before any work is done.

A seed is put to the test in any case (see :mod:`.protocol`), so that another cutoff, grid, mode, functional, other
k-points or smearing cost iterations at most, and mostly still save some: they are told in the log.  Only density
matrices of other projectors mean nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ase import Atoms

from ase_deepdensity.checks import CHARGE
from ase_deepdensity.codes.gpaw.grid import grid
from ase_deepdensity.codes.gpaw.kpoints import kpoints
from ase_deepdensity.codes.gpaw.parameters import with_versions
from ase_deepdensity.level import Level, LevelError
from ase_deepdensity.paw import AtomType
from ase_deepdensity.spelling import PHYSICAL

if TYPE_CHECKING:
    from gpaw.dft import Parameters
    from gpaw.new.builder import DFTComponentsBuilder

OLDEST = (26, 7)
"""Of GPAW: what this package is made for."""
RESOLVED = ('kpts', 'h', 'gpts')
"""Parameters that mean something for given atoms only: there the k-points and the grid themselves are compared."""

OnMismatch = Literal['error', 'warn']


class LevelWarning(UserWarning):
    """A seed for other PAW datasets than the calculation's."""


def check_gpaw() -> None:
    """Refuse a GPAW that is too old.

    Raises
    ------
    ImportError
        The message tells the version that is installed and the one that is needed.
    """
    import gpaw

    version = tuple(int(part) for part in gpaw.__version__.split('.')[:2])
    if version < OLDEST:
        raise ImportError(
            f'seeding needs GPAW {".".join(map(str, OLDEST))} or later with its new interface; '
            f'installed is {gpaw.__version__}: update it with pip install -U gpaw'
        )


def setup_differences(level: Level, params: Parameters) -> list[str]:
    """A line if other datasets are asked for than the level has."""
    mine, theirs = (
        Level({'mode': 'pw', 'setups': each.parameters.get('setups')}) for each in (level, level_of(params))
    )
    return mine.differences(theirs)


def dataset_differences(atom_types: Sequence[AtomType], builder: DFTComponentsBuilder) -> list[str]:
    """One line for each element whose dataset has other projectors, or another number of electrons.

    Parameters
    ----------
    atom_types
        Of the seed, for each atom.
    """
    lines = [
        f'{atom_type.symbol}: {_described(atom_type.nvalence, atom_type.l_j)} against {_described(setup.Nv, setup.l_j)}'
        for atom_type, setup in zip(atom_types, builder.setups, strict=True)
        if (atom_type.nvalence, tuple(atom_type.l_j)) != (setup.Nv, tuple(setup.l_j))
    ]
    return list(dict.fromkeys(lines))


def _described(nvalence: float, l_j: Sequence[int]) -> str:
    return f'{nvalence:g} valence electrons, projectors {"".join("spdfg"[l] for l in l_j) or "none"}'


def differences(level: Level, builder: DFTComponentsBuilder) -> list[str]:
    """One line for each thing in which a calculation that is about to start differs from a level of theory.

    The k-points and the grid are compared as they come out for these atoms.
    """
    atoms: Atoms = builder.atoms
    theirs = with_versions(_without_resolved(level_of(builder.params)), atoms.numbers)
    return [*_without_resolved(level).differences(theirs), *_resolved_differences(level, builder)]


def _resolved_differences(level: Level, builder: DFTComponentsBuilder) -> Iterator[str]:
    kpt_Kc, level_kpt_Kc = builder.ibz.bz.kpt_Kc, kpoints(level, builder.atoms)
    if kpt_Kc.shape != level_kpt_Kc.shape or not np.allclose(_sorted(kpt_Kc), _sorted(level_kpt_Kc), atol=1e-8):
        sizes = (f'{len(kpt_Kc)} ({_size(kpt_Kc)})' for kpt_Kc in (level_kpt_Kc, kpt_Kc))
        yield f'k-points of these atoms: {" against ".join(sizes)}'
    size_c, level_size_c = builder.grid.size_c, grid(level, builder.atoms).size_c
    if (size_c != level_size_c).any():
        yield f'grid of these atoms: {level_size_c.tolist()} against {size_c.tolist()}'


def report_datasets(found: list[str], name: str, on_mismatch: OnMismatch) -> None:
    """Raise or warn of other datasets, if there are any.

    Raises
    ------
    LevelError
        With ``on_mismatch='error'``; the message names each difference.
    """
    if not found:
        return
    message = (
        f'the {name} is for other PAW datasets than the calculation (seed against calculation): {"; ".join(found)}'
    )
    if on_mismatch == 'error':
        raise LevelError(f"{message}. Use those of the seed, or on_mismatch='warn' to try it all the same")
    warnings.warn(message, LevelWarning, stacklevel=3)


def check_charge(params: Parameters, charge: float, name: str) -> None:
    """Refuse another charge than the seed's, |e|."""
    if abs(params.charge - charge) > CHARGE:
        raise LevelError(f'the {name} has the charge {charge} |e|, the calculation {params.charge} |e|')


def check_electrons(builder: DFTComponentsBuilder) -> None:
    """Refuse what is no mismatch of degree: spins in all directions, functionals of more than the density, GPUs."""
    if builder.xc.type == 'MGGA':
        raise LevelError('a meta-GGA needs the kinetic energy density, which no seed has: use GPAW itself')
    if builder.gpu:
        raise LevelError('calculations on GPUs cannot be seeded: use GPAW itself')
    if builder.ncomponents > 2:
        raise LevelError('non-collinear moments cannot be seeded: give one number for each atom, or use GPAW itself')


def level_of(params: Parameters) -> Level:
    """The physical parameters of a calculation."""
    return Level({key: value for key, value in params.todict().items() if key in PHYSICAL}, 'calculation')


def _without_resolved(level: Level) -> Level:
    parameters: dict[str, Any] = {key: value for key, value in level.parameters.items() if key not in RESOLVED}
    return Level(parameters, level.name, level.versions)


def _sorted(kpt_Kc: np.ndarray) -> np.ndarray:
    rounded_Kc = np.round(kpt_Kc, 8) + 0.0
    return rounded_Kc[np.lexsort(rounded_Kc.T)]


def _size(kpt_Kc: np.ndarray) -> str:
    return '×'.join(str(len(np.unique(np.round(kpt_Kc[:, c], 8)))) for c in range(3))
