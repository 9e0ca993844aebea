"""The one-dimensional Kohn–Sham model against what is known about it."""

import numpy as np
import pytest
from ase.calculators.calculator import SCFError
from ase.units import Bohr, Hartree
from scipy.special import mathieu_a, mathieu_b

from ase_deepdensity.codes.ks1d.calculator import KohnSham1D, calculate, system_of
from ase_deepdensity.codes.ks1d.parameters import atom_types, grid
from ase_deepdensity.codes.ks1d.solver import System, hamiltonian, occupations, solve
from ase_deepdensity.collocation.superposition import superpose
from ase_deepdensity.dataset import Dataset
from ase_deepdensity.generate.folder import generate
from ase_deepdensity.level import Level
from ase_deepdensity.sampling.geometries import chain

KINDS = 'insulator', 'metal', 'mixed'


@pytest.fixture(scope='module')
def level() -> Level:
    return Level.load('ks1d')


def atoms_of(kind: str, natoms: int = 8, seed: int = 1):
    return next(chain(kind, natoms, seed=seed))


def system(kind: str, natoms: int = 8, **changes) -> System:
    return system_of(atoms_of(kind, natoms), Level({'mode': 'ks1d'} | changes))


def test_mathieu():
    """−½ψ″ + v cos(2πx/L) ψ = εψ is Mathieu's equation."""
    length, v = 7.0, 0.9
    V_k = np.zeros(61, complex)
    V_k[1] = v / 2
    eigenvalue_n = np.linalg.eigvalsh(hamiltonian(V_k, 30, length))
    scale = (np.pi / length) ** 2 / 2  # ψ″ + (a − 2q cos 2z) ψ = 0 with z = πx/L
    q = v / scale / 2
    expected = [mathieu_a(0, q), mathieu_b(2, q), mathieu_a(2, q), mathieu_b(4, q), mathieu_a(4, q)]
    assert eigenvalue_n[:5] == pytest.approx(scale * np.sort(expected), abs=1e-10)


def test_shifted_potential_has_the_same_eigenvalues():
    """Sines and cosines are treated alike."""
    rng = np.random.default_rng(0)
    V_k = np.zeros(41, complex)
    V_k[:5] = rng.normal(size=5) + 1j * rng.normal(size=5)
    V_k[0] = 0.3
    shifted_k = V_k * np.exp(-2j * np.pi * np.arange(41) * 0.29)
    eigenvalue_n, shifted_n = (np.linalg.eigvalsh(hamiltonian(f_k, 20, 9.0)) for f_k in (V_k, shifted_k))
    assert shifted_n[:12] == pytest.approx(eigenvalue_n[:12], abs=1e-9)


def test_orbitals_are_orthonormal_and_solve_the_equation():
    """H ψ = ε ψ with derivatives by FFT on the grid."""
    s = system('mixed')
    V_k = s.interaction_k * s.ions_ak.sum(0) * 0.05
    eigenvalue_n, psi_gn = s.orbitals(V_k, 10)
    assert psi_gn.T @ psi_gn * s.length / s.points == pytest.approx(np.eye(10), abs=1e-10)
    k_k = 2 * np.pi * np.fft.fftfreq(s.points, s.length / s.points)
    kinetic_gn = np.fft.ifft(k_k[:, None] ** 2 / 2 * np.fft.fft(psi_gn, axis=0), axis=0).real
    H_psi_gn = kinetic_gn + s.grid(V_k)[:, None] * psi_gn
    assert psi_gn.T @ H_psi_gn * s.length / s.points == pytest.approx(np.diag(eigenvalue_n), abs=1e-9)


def test_wide_ions_are_a_free_electron_gas():
    """Ions far wider than their spacing are a uniform background: V vanishes, the orbitals are plane waves."""
    s = system('metal', atoms={'Be': {'charge': 2, 'width': 60.0}})
    ground = solve(s)
    k_n = 2 * np.pi / s.length * np.array([0, *np.repeat(np.arange(1, 8), 2), 8])
    assert ground.n_g == pytest.approx(np.full(s.points, s.electrons / s.length), rel=1e-6)
    assert ground.energy == pytest.approx((k_n**2 / 2).sum(), rel=1e-6)


def test_fermi_dirac():
    eigenvalue_n = np.array([-1.0, 0.0, 0.0, 1.0])
    assert occupations(eigenvalue_n, 2.0, 0.01) == pytest.approx([1, 0.5, 0.5, 0], abs=1e-9)
    hot_n = occupations(eigenvalue_n, 1.7, 0.5)
    odds_n = np.log(1 / hot_n - 1) * 0.5  # (ε − μ)
    assert hot_n.sum() == pytest.approx(1.7)
    assert odds_n - odds_n[0] == pytest.approx(eigenvalue_n - eigenvalue_n[0])


@pytest.mark.parametrize('kind', KINDS)
def test_electrons(kind, level):
    atoms = atoms_of(kind)
    density = calculate(atoms, level).density
    assert density.integral() == pytest.approx(16, abs=1e-9)
    assert density.number_of_electrons() == pytest.approx(16, abs=1e-9)
    assert density.normalized().nt_sR == pytest.approx(density.nt_sR)
    assert density.nt_sR.min() > 0


@pytest.mark.parametrize('kind', KINDS)
def test_energy_and_density_of_a_dense_grid(kind):
    """Twice the wave vectors move the energy by less than 1e-6 eV per atom and the density by 1e-4 of its mean."""
    plain, dense = (solve(system(kind, ecut=ecut), convergence=1e-9) for ecut in (160.0, 640.0))
    assert plain.energy * Hartree / 8 == pytest.approx(dense.energy * Hartree / 8, abs=1e-6)
    assert len(dense.n_g) >= 1.9 * len(plain.n_g)
    x_g, dense_x = np.arange(len(plain.n_g)) / len(plain.n_g), np.fft.rfft(dense.n_g) / len(dense.n_g)
    there_g = (dense_x[0] + 2 * dense_x[1:-1] @ np.exp(2j * np.pi * np.outer(np.arange(1, len(dense_x) - 1), x_g))).real
    assert plain.n_g == pytest.approx(there_g, abs=2e-5)


@pytest.mark.parametrize('kind', KINDS)
def test_forces_are_the_derivative_of_the_free_energy(kind):
    atoms = atoms_of(kind)
    atoms.calc = KohnSham1D()
    forces_av = atoms.get_forces()
    assert abs(forces_av.sum(0)).max() < 1e-4 and not forces_av[:, :2].any()
    a, h, values = 3, 2e-3, []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[a, 2] += sign * h
        moved.calc = KohnSham1D()
        moved.get_potential_energy()
        values.append(moved.calc.results['free_energy'])
    assert forces_av[a, 2] == pytest.approx((values[1] - values[0]) / (2 * h), abs=2e-5)


def test_insulators_have_a_gap_and_metals_none(level):
    insulator, metal = (calculate(atoms_of(kind, 16), level).info['gap, eV'][0] for kind in KINDS[:2])
    assert insulator > 1.0 > 1e-2 > metal


def test_the_metal_needs_kerker():
    s = system('metal', 32)
    assert solve(s).niter < 20
    with pytest.raises(SCFError, match='not converged after 60 iterations'):
        solve(s, maxiter=60, kerker=False)


@pytest.mark.parametrize('kind', KINDS)
def test_iterations_hardly_grow_with_the_chain(kind):
    assert solve(system(kind, 64)).niter < 45


def test_translation_and_size(level):
    """A repeated cell of an insulator has nearly the same energy per atom, although there are no k-points."""
    atoms = atoms_of('insulator')
    twice, moved = atoms.repeat((1, 1, 2)), atoms.copy()
    moved.positions[:, 2] += 0.37 * atoms.cell[2, 2]
    for a in atoms, twice, moved:
        a.calc = KohnSham1D(level)
    assert moved.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    assert twice.get_potential_energy() / 2 == pytest.approx(atoms.get_potential_energy(), abs=1e-3 * 8)


def test_start_is_the_superposition_of_atoms(level):
    """What the tables say is what the solver starts from: minus the charge of the ions."""
    atoms = atoms_of('mixed')
    tables = {atom_type.number: atom_type.nt for atom_type in atom_types(level, [2, 4])}
    n_R = superpose(grid(level, atoms), atoms.positions, atoms.numbers, tables)
    s = system_of(atoms, level)
    assert n_R.ravel() * Bohr == pytest.approx(-s.grid(s.ions_ak.sum(0)), abs=1e-7)


def test_generate(tmp_path, level):
    frames = [atoms_of('mixed', 4, seed) for seed in range(2)]
    summary = generate(frames, tmp_path, level, progress=False)
    assert len(summary.done) == 2
    snapshot = Dataset(tmp_path)[0]
    assert snapshot.atoms == frames[0] and snapshot.level == level and snapshot.niter > 3
    assert snapshot.density.grid == grid(level, frames[0])
    frames[0].calc = KohnSham1D()
    assert snapshot.energy == pytest.approx(frames[0].get_potential_energy())
    assert snapshot.forces == pytest.approx(frames[0].get_forces())
    assert snapshot.density.nt_sR.ravel() == pytest.approx(frames[0].calc.get_pseudo_density())
    assert snapshot.dipole == pytest.approx(frames[0].get_dipole_moment())


def test_too_few_plane_waves():
    with pytest.raises(SCFError, match='cannot hold 16 electrons: raise ecut'):
        solve(system('metal', ecut=1.0))


def test_another_program_is_refused():
    with pytest.raises(ValueError, match="'dzp' is one of gpaw, not one-dimensional"):
        KohnSham1D('dzp')
