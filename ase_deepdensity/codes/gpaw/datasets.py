"""GPAW's datasets ("setups"), and what they say of the elements."""

from __future__ import annotations

import json
from functools import lru_cache
from math import pi, sqrt
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.units import Bohr, Hartree
from numpy.typing import ArrayLike

from ase_deepdensity.arguments import reason
from ase_deepdensity.basis import RadialTable
from ase_deepdensity.codes.gpaw.require import require_gpaw
from ase_deepdensity.level import Level, LevelError
from ase_deepdensity.paw import AtomType

if TYPE_CHECKING:
    from gpaw.setup import Setup, Setups

SPACING = 0.002
"""Of the radial mesh, Å."""


def atom_types(level: Level, numbers: ArrayLike) -> list[AtomType]:
    """See :meth:`.Code.atom_types`; elements whose datasets a level chooses by the atom's index have several types."""
    number_a = [int(number) for number in np.asarray(numbers)]
    parameters = json.dumps(level.parameters, sort_keys=True)
    if _by_index(level):
        return types_of(setups(level, number_a))
    for number in sorted(set(number_a)):
        setups(level, [number])  # says what is wrong
    return [_atom_type(parameters, number) for number in number_a]


def types_of(setups: Setups) -> list[AtomType]:
    """For each atom its type; atoms of one kind share a dataset."""
    known: dict[int, AtomType] = {}
    for setup in setups:
        if id(setup) not in known:
            known[id(setup)] = atom_type(setup)
    return [known[id(setup)] for setup in setups]


def _by_index(level: Level) -> bool:
    """Does the level choose datasets or basis sets for single atoms?"""
    chosen = [level.parameters.get(name) for name in ('setups', 'basis')]
    return any(str(key).isdigit() for choice in chosen if isinstance(choice, dict) for key in choice)


def setups(level: Level, numbers: ArrayLike) -> Setups:
    """GPAW's own objects, one per atom of the atomic numbers (natoms,); cached.

    Raises
    ------
    LevelError
        No dataset for an element, or a functional or a kind of dataset that GPAW does not know.
    MissingGPAWError
        Without GPAW.
    """
    if level.code != 'gpaw':
        raise LevelError(f'this needs GPAW, but the {level.label} is one of {level.code}')
    require_gpaw('reading PAW datasets')
    number_a = tuple(int(number) for number in np.asarray(numbers))
    try:
        return _setups(json.dumps(level.parameters, sort_keys=True), number_a)
    except FileNotFoundError as error:
        symbols = ', '.join(sorted({chemical_symbols[number] for number in number_a}))
        raise LevelError(
            f'{level.label}: a dataset for one of {symbols} is missing; "gpaw info" shows where GPAW looks ({error})'
        ) from None
    except Exception as error:  # an unknown functional, type of dataset or basis
        raise LevelError(f'{level.label}: GPAW refuses the parameters: {reason(error)}') from error


@lru_cache(maxsize=64)
def _setups(parameters: str, number_a: tuple[int, ...]) -> Setups:
    from gpaw.dft import Parameters
    from gpaw.mpi import serial_comm
    from gpaw.setup import Setups

    params = Parameters(**Level(json.loads(parameters)).keywords())
    xc = params.xc.functional(collinear=True, atoms=Atoms(numbers=number_a))
    return Setups(number_a, params.setups, params.basis, xc, world=serial_comm)


@lru_cache(maxsize=256)
def _atom_type(parameters: str, number: int) -> AtomType:
    return atom_type(_setups(parameters, (number,))[0])


def atom_type(setup: Setup) -> AtomType:
    """What a dataset says of its element."""
    from gpaw.utilities import unpack_hermitian

    data, shape = setup.data, setup.data.shape_function
    f_sI = setup.calculate_initial_occupation_numbers(0.0, False, charge=0.0, nspins=1)
    bound_j = [n > 0 for n in setup.n_j]
    return AtomType(
        number=chemical_symbols.index(setup.symbol),
        nvalence=float(setup.Nv),
        l_j=tuple(int(l) for l in setup.l_j),
        n_j=tuple(max(int(n), 0) for n in setup.n_j),
        f_j=tuple(float(f) if bound else 0.0 for f, bound in zip(setup.f_j, bound_j, strict=True)),
        eps_j=tuple(float(eps) * Hartree for eps in data.eps_j),
        Delta_iiL=np.array(setup.Delta_iiL),
        Delta0=float(setup.Delta0),
        core_charge=float(setup.Z - setup.Nv - setup.Nc),
        rcgauss=float(shape['rc']) * Bohr if shape['type'] == 'gauss' else None,
        nt=RadialTable.fit(*free_atom(setup, f_sI[0])),
        D_ii=unpacked(setup.initialize_density_matrix(f_sI)[0]),
        fingerprint=setup.fingerprint or '',
        N0_ii=unpack_hermitian(setup.N0_p),
    )


def free_atom(setup: Setup, f_I: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The spherical pseudo density of an isolated atom in GPAW's start, spin-paired and neutral.

        ñ(r) = ñ_c(r) + Σ_j f_j |φ̃_j(r)|² / 4π

    with GPAW's initial occupations f_j and, for φ̃_j, what GPAW starts with at the dataset's level: the basis functions
    of the LCAO mode or the pseudo partial waves.  Summed over the atoms, it is
    ``builder.density_from_superposition(...)``, which is not normalised.  Images count across every boundary that is
    not a zero boundary (:attr:`.Grid.zerobc_c`): plane waves are periodic along a direction with pbc False, too.

    Parameters
    ----------
    f_I
        (functions,) GPAW's initial occupations.

    Returns
    -------
    tuple
        r_g (Å, evenly spaced from 0 to where the density ends) and n_g (electrons/Å³).
    """
    splines = setup.basis_functions_J
    cutoffs = [spline.get_cutoff() for spline in splines] + ([setup.nct.get_cutoff()] if setup.nct is not None else [])
    r_g = np.linspace(0.0, max(cutoffs), int(np.ceil(max(cutoffs) * Bohr / SPACING)) + 1)  # bohr
    n_g = np.zeros_like(r_g) if setup.nct is None else setup.nct.map(r_g) / sqrt(4 * pi)
    first = 0
    for spline in splines:
        l = spline.get_angular_momentum_number()
        f = f_I[first : first + 2 * l + 1].sum()
        n_g = n_g + f * (spline.map(r_g) * r_g**l) ** 2 / (4 * pi)  # GPAW's splines hold φ̃/r^l
        first += 2 * l + 1
    return r_g * Bohr, n_g * Bohr**-3


def unpacked(D_p: np.ndarray) -> np.ndarray:
    """A density matrix (ni, ni) from GPAW's packed form, in which pairs of elements off the diagonal are added."""
    from gpaw.utilities import unpack_density

    D_ii: np.ndarray = unpack_density(D_p)
    return D_ii
