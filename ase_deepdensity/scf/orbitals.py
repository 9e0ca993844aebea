"""Orbitals, bands and densities of states of a predicted density, without a self-consistency cycle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.spectrum.band_structure import BandStructure

from ase_deepdensity.arguments import reason, whole
from ase_deepdensity.model import DensityModel
from ase_deepdensity.scf.calculator import SeededGPAW
from ase_deepdensity.state import PAWDensity

if TYPE_CHECKING:
    from gpaw.new.ase_interface import ASECalculator

EMPTY = 4
"""Empty bands that are shown, unless the user says otherwise."""
SPARE = 4
"""Bands that the eigensolver takes along above those."""


def orbitals_of(
    source: str | Path | DensityModel | PAWDensity,
    atoms: Atoms | None = None,
    *,
    txt: str | Path | IO[str] | None = None,
    **parameters: Any,
) -> ASECalculator:
    """GPAW's calculator with the orbitals, occupations and Fermi level in the potential of a density that stays.

    GPAW's methods speak of them: ``get_eigenvalues``, ``get_pseudo_wave_function``, ``dos()``, ``fixed_density``.

    Parameters
    ----------
    source
        Name of a shipped model, path of a model file, a model; or a density.
    atoms
        For a model, what it predicts the density of.
    txt
        Where GPAW's log goes; None: nowhere.
    parameters
        Of GPAW; none: those of the level of theory.

    Raises
    ------
    ValueError
        A density that cannot be one of these atoms; a model without atoms.
    LevelError, PredictionError, ImportError
        As for :class:`SeededGPAW`.
    """
    if atoms is None:
        if not isinstance(source, PAWDensity):
            raise ValueError(f'{source} needs atoms to predict a density of')
        atoms = source.atoms
    calc = SeededGPAW(source, txt=txt, **parameters)
    calc.create_new_calculation(atoms)
    report = calc.seed_report
    if report is None or not report.accepted:
        raise ValueError(f'there are no orbitals of this density: {"" if report is None else report.reason}')
    return calc.fixed_density(txt=txt, update_fermi_level=True)


def path_in(atoms: Atoms, path: str | None = None) -> str:
    """A path through the Brillouin zone of some atoms, by the special points of their lattice; default: ASE's path.

    Raises
    ------
    ValueError
        Atoms that are not periodic, or a path that their lattice does not have.
    """
    if not atoms.pbc.any():
        raise ValueError(
            f'bands need atoms that are periodic along at least one lattice vector; {atoms.get_chemical_formula()} has '
            'pbc = False along all three'
        )
    lattice = atoms.cell.bandpath(npoints=0, pbc=atoms.pbc)
    points = ', '.join(lattice.special_points)
    if path is None:
        return lattice.path
    try:
        kpts_kc = atoms.cell.bandpath(path, npoints=2, pbc=atoms.pbc).kpts
    except (ValueError, KeyError, RuntimeError) as error:
        why = f'there is no {error.args[0]}' if isinstance(error, KeyError) else reason(error)
        raise ValueError(f'no such path in this lattice, {path!r}: {why}; its special points are {points}') from error
    if len(kpts_kc) < 2:
        raise ValueError(f'a path has at least two special points, of {points}; not {path!r}')
    return path


def band_structure(
    calc: ASECalculator, path: str | None = None, npoints: int = 60, *, empty: int = EMPTY
) -> BandStructure:
    """The bands of a calculator's density along a path, as ASE has them: with ``plot()`` and ``write('bands.json')``.

    Parameters
    ----------
    calc
        Of :func:`orbitals_of`, a :class:`.OnePassGPAW` or GPAW's own.
    path
        Special points of the lattice such as 'GXWKGL'; default: ASE's path.
    npoints
        k-points along it.
    empty
        Bands above the occupied ones.

    Raises
    ------
    ValueError
        Atoms that are not periodic, or a path that their lattice does not have.
    """
    whole('npoints', npoints, least=2, most=10_000)
    whole('empty', empty, least=0, most=10_000)
    path = path_in(calc.atoms, path)
    shown = int(np.ceil(calc.get_number_of_electrons() / 2)) + empty
    nbands = shown + SPARE
    if calc.dft.ibzwfs.mode == 'lcao':
        nbands = min(nbands, calc.dft.setups.nao)
        shown = min(shown, nbands)
    fixed = calc.fixed_density(
        kpts={'path': path, 'npoints': npoints},
        symmetry='off',
        nbands=nbands,
        convergence={'bands': shown},
        txt=None,
    )
    bands = fixed.band_structure()
    return BandStructure(bands.path, bands.energies[..., :shown], bands.reference)


def density_of_states(
    calc: ASECalculator, energies: Sequence[float] | np.ndarray, *, width: float = 0.1, kpts: Any = None
) -> np.ndarray:
    """States per eV at energies (eV) from the Fermi level: of both spins, (len(energies),).

    Parameters
    ----------
    calc
        As for :func:`band_structure`.
    width
        Of the Gaussians, eV; 0: linear tetrahedra between the k-points.
    kpts
        As GPAW takes them; default: those of the calculator.
    """
    if kpts is not None:
        calc = calc.fixed_density(kpts=kpts, update_fermi_level=True, txt=None)
    calculator: Any = calc.dos()
    dos: np.ndarray = calculator.raw_dos(np.asarray(energies, float), width=width)
    return dos
