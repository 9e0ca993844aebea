"""What ASE learns of this package when it is installed: the formats of its files, and its calculator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ase.utils.plugins import ExternalIOFormat

if TYPE_CHECKING:
    from ase import Atoms

io = ExternalIOFormat(
    desc='ase_deepdensity: a density or a snapshot', code='1S', module='ase_deepdensity.ase_plugin', ext=['h5']
)
"""Entry point ``deepdensity`` of ``ase.ioformats``: for ``ase.io.read('n.h5')``, ``ase gui``, ``ase convert``."""

zarr = ExternalIOFormat(
    desc='ase_deepdensity: a density in Zarr', code='1S', module='ase_deepdensity.ase_plugin', glob=['*.zarr']
)
"""Entry point ``deepdensity-zarr`` of ``ase.ioformats``, with its name: ASE takes any folder for a trajectory."""

CITATION = 'doi:10.1016/j.jcp.2021.110523'


def __getattr__(name: str) -> Any:
    """``__ase_plugins__``: entry point ``deepdensity`` of ``ase.plugins``, for ``ase info --plugins``.

    That module of ASE is not public yet, so that nothing but ASE's own asking for it imports it.  SeededGPAW and
    OnePassGPAW are none of ASE's classes of calculators, as GPAW's own is none, which plugins need to be.
    """
    if name != '__ase_plugins__':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from ase._4.plugins.plugin import CalculatorPlugin

    return {CalculatorPlugin('deepdensity', citation=CITATION, implementation='ase_deepdensity.DeepDensity')}


def read_deepdensity(filename: str) -> Atoms:
    """The atoms of a density or of a snapshot, with what is known of energy (eV), forces (eV/Å) and dipole (e·Å).

    Raises
    ------
    ValueError
        No such file of this package, or a damaged one.
    """
    from ase.calculators.singlepoint import SinglePointCalculator

    from ase_deepdensity.dataset.density_file import read_density
    from ase_deepdensity.dataset.files import LAYOUT, read_snapshot
    from ase_deepdensity.dataset.hdf5 import opened

    density = read_density(filename)
    atoms = cast('Atoms', density.atoms.copy())
    try:
        with opened(filename, LAYOUT):
            pass
    except ValueError:  # a density without a snapshot's energy and forces
        results: dict[str, Any] = {'dipole': density.dipole_moment()} if density.grid.is_whole else {}
    else:
        snapshot = read_snapshot(filename)
        results = {'energy': snapshot.energy, 'dipole': snapshot.dipole}
        if snapshot.forces is not None:
            results['forces'] = snapshot.forces
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.calc.name = 'deepdensity'
    if density.charge:
        atoms.info['charge'] = density.charge
    return atoms


def write_deepdensity(filename: str, atoms: Atoms) -> None:
    """The density that the atoms' calculator speaks of: a prediction, or GPAW's.

    Raises
    ------
    ValueError
        Another calculator, or none.
    """
    from ase_deepdensity.calculator import DeepDensity
    from ase_deepdensity.dataset.density_file import write_density
    from ase_deepdensity.state import PAWDensity

    if isinstance(atoms.calc, DeepDensity):
        density = atoms.calc.predict(atoms)
    elif hasattr(atoms.calc, 'dft'):
        density = PAWDensity.from_gpaw(atoms.calc)
    else:
        raise ValueError(
            f'{filename}: a density is known of atoms with DeepDensity or GPAW for a calculator, not with '
            f'{type(atoms.calc).__name__}; "deepdensity predict GEOMETRY MODEL --out {filename}" predicts one'
        )
    write_density(filename, density)


def read_deepdensity_zarr(filename: str) -> Atoms:
    """The atoms of a density in Zarr, as they were."""
    from ase_deepdensity.dataset.zarr_folder import read_zarr

    return read_zarr(filename)[0]
