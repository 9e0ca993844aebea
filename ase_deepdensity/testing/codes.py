"""What every code must do, as tests to inherit: see :class:`.codes.Code`.

class TestMine(CodeContract):
    @pytest.fixture
    def level(self):
        return Level({'mode': 'mine'})

    @pytest.fixture
    def atoms(self):
        return some_small_system()
"""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from ase_deepdensity.codes import code_of
from ase_deepdensity.collocation.superposition import superpose
from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level, LevelError
from ase_deepdensity.paw import AtomType, compensation_charges
from ase_deepdensity.snapshot import Snapshot

ELECTRONS = 1e-6
"""Per valence electron, that may be missing."""
SAME = 1e-6
"""Of the largest value: a density that is normalised once more."""
SUPERPOSITION = 0.5
"""Of all electrons: what a superposition of atoms may be away from the density, ∫ |difference| dr."""


class CodeContract:
    """Inherit it, and supply the fixtures ``level``, ``atoms`` and ``unknown``."""

    @pytest.fixture
    def level(self) -> Level:
        """A level of the code, without versions."""
        raise NotImplementedError

    @pytest.fixture
    def atoms(self) -> Atoms:
        """Few, whose calculation takes seconds at most."""
        raise NotImplementedError

    @pytest.fixture
    def unknown(self) -> int:
        """Atomic number of an element that the code lacks at this level."""
        raise NotImplementedError

    @pytest.fixture
    def snapshot(self, level: Level, atoms: Atoms) -> Snapshot:
        """Of the atoms."""
        return code_of(level).calculate(atoms, level)

    def test_check_adds_versions(self, level: Level, atoms: Atoms) -> None:
        checked = code_of(level).check(level, atoms.numbers)
        assert checked == level and checked.parameters == level.parameters and checked.name == level.name
        assert checked.versions, 'what the code is, to recognise data of another one'
        assert Level.from_dict(checked.to_dict()) == checked

    def test_unknown_elements_are_refused(self, level: Level, unknown: int) -> None:
        for ask in code_of(level).check, code_of(level).atom_types:
            with pytest.raises(LevelError):
                ask(level, [unknown])

    def test_grid(self, level: Level, atoms: Atoms) -> None:
        code = code_of(level)
        grid = code.grid(level, atoms)
        assert grid.is_whole and (grid.pbc_c == atoms.pbc).all()
        assert np.allclose(grid.cell_cv, atoms.cell.array, rtol=0, atol=1e-8)
        assert code.grid(level, atoms, gpts=grid.size_c).size_c.tolist() == grid.size_c.tolist()
        spacing = float(grid.spacing_c[np.array(grid.shape) > 1].min())
        finer = code.grid(level, atoms, h=spacing / 2)
        assert (finer.size_c >= grid.size_c).all() and (finer.size_c > grid.size_c).any()
        with pytest.raises(ValueError, match='grid|gpts|h'):
            code.grid(level, atoms, gpts=(0, 0, 0))

    def test_kpoints(self, level: Level, atoms: Atoms) -> None:
        kpt_Kc = code_of(level).kpoints(level, atoms)
        assert kpt_Kc.ndim == 2 and kpt_Kc.shape[1] == 3 and len(kpt_Kc) > 0
        assert (kpt_Kc[:, ~atoms.pbc] == 0).all(), 'none along what is not periodic'

    def test_atom_types_follow_the_atoms(self, level: Level, atoms: Atoms) -> None:
        types = code_of(level).atom_types(level, atoms.numbers)
        assert [atom_type.number for atom_type in types] == atoms.numbers.tolist()
        again = code_of(level).atom_types(level, atoms.numbers[::-1])[::-1]
        assert all(one is other for one, other in zip(types, again, strict=True)), 'they are made once'

    def test_atom_types_are_read_as_they_were_written(self, level: Level, atoms: Atoms) -> None:
        for atom_type in set(code_of(level).atom_types(level, atoms.numbers)):
            arrays = atom_type.to_arrays()
            copy = AtomType.from_arrays(atom_type.number, arrays, atom_type.fingerprint)
            assert copy.is_like(atom_type)
            for name, array in copy.to_arrays().items():
                np.testing.assert_array_equal(array, arrays[name], err_msg=name)

    def test_fingerprints_are_those_of_the_versions(self, level: Level, atoms: Atoms) -> None:
        checked = code_of(level).check(level, atoms.numbers)
        for atom_type in code_of(level).atom_types(level, atoms.numbers):
            assert checked.fingerprint(atom_type.number) == atom_type.fingerprint

    def test_free_atoms_are_neutral_but_for_what_their_radius_cuts_off(self, level: Level, atoms: Atoms) -> None:
        """∫ ñ of an isolated atom is the opposite of its compensation charge; codes cut ñ off at some radius."""
        for atom_type in set(code_of(level).atom_types(level, atoms.numbers)):
            (Q_L,) = compensation_charges([atom_type.D_ii[np.newaxis]], [atom_type])
            r_g = np.linspace(0, atom_type.nt.cutoff, 10001)
            electrons = np.trapezoid(self.shell(r_g) * atom_type.nt(r_g), r_g)
            assert electrons == pytest.approx(-np.sqrt(4 * np.pi) * Q_L[0], abs=0.1)

    def shell(self, r_g: np.ndarray) -> np.ndarray:
        """What distances (Å) weigh in an integral: 4πr², in three dimensions."""
        return 4 * np.pi * r_g**2

    def test_snapshot(self, snapshot: Snapshot, level: Level, atoms: Atoms) -> None:
        """It is one of these atoms and this level, on the grid that was foretold, with all electrons."""
        density = snapshot.density
        assert density.level == level and density.level.versions
        assert density.grid == code_of(level).grid(level, atoms)
        assert density.atoms == atoms and density.atom_types is not None
        assert [t.number for t in density.atom_types] == atoms.numbers.tolist()
        valence = sum(atom_type.nvalence for atom_type in density.types())
        assert density.number_of_electrons() == pytest.approx(valence - density.charge, abs=ELECTRONS * valence)
        assert density.normalized().nt_sR == pytest.approx(density.nt_sR, abs=SAME * density.nt_sR.max())
        assert snapshot.niter > 0 and snapshot.seconds > 0
        assert snapshot.forces is not None and np.abs(snapshot.forces).max() > 0

    def test_calculating_leaves_the_atoms_alone(self, level: Level, atoms: Atoms) -> None:
        before = atoms.copy()
        code_of(level).calculate(atoms, level)
        assert atoms == before and atoms.calc is None

    def test_a_superposition_of_atoms_is_near_the_density(self, snapshot: Snapshot) -> None:
        density, tables = snapshot.density, {t.number: t.nt for t in snapshot.density.types()}
        grid: Grid = density.grid
        n_R = superpose(grid, density.atoms.positions, density.atoms.numbers, tables)
        nt_R = density.nt_sR.sum(axis=0)
        assert np.abs(n_R - nt_R).sum() < SUPERPOSITION * nt_R.sum()
