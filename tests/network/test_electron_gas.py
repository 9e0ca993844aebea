import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.dft.kpoints import monkhorst_pack

from ase_deepdensity.network.electron_gas import KINETIC, REFLECTION, Waves, fermi_level, lindhard, response

CELL = bulk('Al').cell.array
DENSITY = 3 / abs(np.linalg.det(CELL))
G = np.array([[1, 0, 0], [1, 1, 0], [2, 1, 0], [1, -1, 2]]) @ (2 * np.pi * np.linalg.inv(CELL).T)


def test_many_kpoints_come_to_lindhards_function():
    chi_x = response(CELL, monkhorst_pack((16, 16, 16)), 3, 0.5, G)
    np.testing.assert_allclose(chi_x, lindhard(np.linalg.norm(G, axis=1), DENSITY, 0.5), rtol=5e-3)


def test_long_waves_meet_the_density_of_states():
    """χ(q → 0) = −3n/2E_F, the density of states of both spins."""
    fermi = KINETIC * (3 * np.pi**2 * DENSITY) ** (2 / 3)
    assert fermi == pytest.approx(11.65, abs=0.05)  # eV, N. W. Ashcroft, N. D. Mermin, Solid State Physics (1976)
    assert lindhard(np.array([1e-3]), DENSITY, 0.01)[0] == pytest.approx(-3 * DENSITY / (2 * fermi), rel=1e-4)


def test_second_derivative_of_the_energy():
    """χ is what the density of free electrons at one k-point does in a weak periodic potential."""
    kpt_c, width, electrons, V = np.array([0.12, -0.31, 0.07]), 0.8, 3.0, 1e-4
    b_cv = 2 * np.pi * np.linalg.inv(CELL).T
    N_xc = np.array(list(np.ndindex(9, 9, 9))) - 4
    diagonal = KINETIC * (((N_xc + kpt_c) @ b_cv) ** 2).sum(1)
    which = {tuple(N_c): i for i, N_c in enumerate(N_xc.tolist())}
    wave_c = np.array([1, 0, 0])
    H_xx = np.diag(diagonal)
    pairs = [(i, which[N]) for i, N_c in enumerate(N_xc) if (N := tuple((N_c + wave_c).tolist())) in which]
    for i, j in pairs:
        H_xx[i, j] = H_xx[j, i] = V
    energy_n, psi_xn = np.linalg.eigh(H_xx)
    from scipy.optimize import brentq
    from scipy.special import expit

    level = brentq(lambda mu: 2 * expit((mu - energy_n) / width).sum() - electrons, 0, 60)
    f_n = 2 * expit((level - energy_n) / width)
    density_G = sum((psi_xn[i] * psi_xn[j] * f_n).sum() for i, j in pairs) / abs(np.linalg.det(CELL))
    chi = response(CELL, kpt_c[np.newaxis], electrons, width, wave_c[np.newaxis] @ b_cv)[0]
    assert density_G / V == pytest.approx(chi, rel=1e-4)


def test_time_reversal_is_understood():
    kpt_Kc = np.array([[0.2, 0.1, 0.3]])
    both = np.concatenate([kpt_Kc, -kpt_Kc])
    np.testing.assert_allclose(response(CELL, kpt_Kc, 3, 0.3, G), response(CELL, both, 3, 0.3, G), rtol=1e-10)


def test_features_are_expansions_of_one_field(monkeypatch):
    """l = 0 is the field itself and l = 1 its gradient, at the atoms, per band of wave vectors."""
    atoms = bulk('Al').repeat((2, 2, 1))
    atoms.rattle(0.1, seed=1)
    waves = Waves.of(atoms.cell.array, np.zeros((1, 3)), 12.0, [0.3], 1)
    R_av = torch.from_numpy(atoms.positions)
    F_mac = waves.features(R_av)
    monkeypatch.setattr('ase_deepdensity.network.electron_gas.WAVES', 50)
    torch.testing.assert_close(waves.features(R_av), F_mac)

    in_phase_x = (torch.exp(1j * (R_av @ waves.G_xv.T)).sum(0).abs() / len(atoms)) ** 2
    weight_xc = waves.weight_xwu[:, 0] / (1 + (in_phase_x[:, None] / REFLECTION) ** 3)

    def field(r_pv: torch.Tensor, weight_xc: torch.Tensor) -> torch.Tensor:
        phase_pax = (r_pv[:, None] - R_av) @ waves.G_xv.T
        return phase_pax.cos().sum(1) @ weight_xc

    Y0, Y1 = (4 * np.pi) ** -0.5, (3 / (4 * np.pi)) ** 0.5
    torch.testing.assert_close(F_mac[0], Y0 * field(R_av, weight_xc))
    r_av = R_av.clone().requires_grad_()
    (gradient_av,) = torch.autograd.grad(field(r_av, weight_xc[:, 3:4] / waves.G_xv.norm(dim=1)[:, None]).sum(), r_av)
    torch.testing.assert_close(F_mac[1:4, :, 3].T, Y1 * gradient_av[:, [1, 2, 0]])  # y, z, x


@pytest.mark.parametrize('kpts', [(1, 1, 1), (2, 1, 1), (4, 4, 4)])
@pytest.mark.parametrize(('electrons', 'width'), [(3.0, 0.1), (3.0, 2.0), (40.0, 0.1), (1e-12, 0.3)])
def test_fermi_level_holds_the_electrons(kpts, electrons, width):
    """Of all states up to far above it, also with few k-points, where it is far above that of many."""
    kpt_Kc = monkhorst_pack(kpts)
    level, _ = fermi_level(CELL, kpt_Kc, electrons, width)
    b_cv = 2 * np.pi * np.linalg.inv(CELL).T
    N_xc = np.array(list(np.ndindex(17, 17, 17))) - 8
    energy_p = np.concatenate([KINETIC * (((N_xc + kpt_c) @ b_cv) ** 2).sum(1) for kpt_c in kpt_Kc])
    occupation_p = 2 * np.exp(-np.logaddexp(0, (energy_p - level) / width)) / len(kpt_Kc)
    assert occupation_p.sum() == pytest.approx(electrons, rel=1e-3)


@pytest.mark.parametrize(('electrons', 'width'), [(0, 0.1), (np.nan, 0.1), (3, 0), (3, np.inf)])
def test_no_fermi_level(electrons, width):
    with pytest.raises(ValueError, match='a Fermi level needs'):
        fermi_level(CELL, np.zeros((1, 3)), electrons, width)


def test_response_at_one_kpoint_is_finite():
    chi_x = response(CELL, np.zeros((1, 3)), 3, 0.1, G)
    assert np.isfinite(chi_x).all() and (chi_x < 0).all()
