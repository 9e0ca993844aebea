"""What GPAW must do for each seam.  One of these fails where a new GPAW does otherwise."""

from __future__ import annotations

from itertools import islice
from math import gamma

import numpy as np
import pytest
from ase import Atoms
from ase.units import Bohr, Ha
from gpaw.dft import Parameters
from gpaw.new.ase_interface import GPAW
from gpaw.new.density import Density
from gpaw.new.scf import SCFLoop

from ase_deepdensity.codes.gpaw import seams
from tests.tolerances import COMPENSATION_CHARGES, EXACT

MODES = {
    'pw': {'mode': {'name': 'pw', 'ecut': 200}, 'xc': 'LDA', 'txt': None},
    'lcao': {'mode': 'lcao', 'basis': 'szp(dzp)', 'h': 0.3, 'xc': 'LDA', 'txt': None},
}


def lithium_hydride() -> Atoms:
    return Atoms('LiH', [[0.1, 0.2, 0.3], [1.6, 0.4, 0.2]], cell=[3.1, 3.3, 3.5], pbc=True)


def new_calculation(mode: str = 'lcao', **parameters: object):
    """Set up, not iterated."""
    calc = GPAW(**MODES[mode] | parameters)
    calc.create_new_calculation(lithium_hydride())
    return calc


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope='module', params=MODES)
def converged(request: pytest.FixtureRequest):
    """Not to be changed."""
    calc = GPAW(**MODES[request.param])
    calc.get_potential_energy(lithium_hydride())
    return calc


def iterate(dft):
    """GPAW's loop on a calculation, iteration by iteration."""
    return dft.scf_loop.iterate(dft.ibzwfs, dft.density, dft.potential, dft.energies, dft.pot_calc)


def electrons(density: Density, background_charge: float = 0.0) -> float:
    """How many are missing in ñ and compensation charges together."""
    Q_aL = density.calculate_compensation_charge_coefficients()
    charge = np.sqrt(4 * np.pi) * sum(Q_L[0] for Q_L in Q_aL.values()) + density.charge - background_charge
    return float(density.nt_sR.integrate().sum() + charge)


# --- how a calculation is built --------------------------------------------------------------------------------------


def test_builder_of_a_new_calculation_and_of_another_cell():
    params, seen = Parameters(**{key: MODES['pw'][key] for key in ('mode', 'xc')}), []
    calc = GPAW(txt=None, **params.todict())
    calc.params = params
    with seams.altered_builders(params, seen.append):
        calc.create_new_calculation(lithium_hydride())
        assert len(seen) == 1
        larger = lithium_hydride()
        larger.set_cell(1.02 * larger.cell.array, scale_atoms=True)
        calc.create_new_calculation_from_old(larger)
    assert len(seen) == 2 and seen[1].atoms == larger
    calc.create_new_calculation(lithium_hydride())
    assert len(seen) == 2


def test_order_in_which_a_calculation_is_built(mode, monkeypatch):
    calc, order = GPAW(**MODES[mode]), []
    names = [
        'create_scf_loop',
        'create_potential_calculator',
        'density_from_superposition',
        'create_ibz_wave_functions',
    ]

    def watch(owner, name):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, **kwargs: order.append(name) or original(*args, **kwargs))

    def alter(builder):
        for name in names:
            watch(builder, name)
        seams.on_potential_calculator(builder, lambda pot_calc: watch(pot_calc, 'calculate'))

    with seams.altered_builders(calc.params, alter):
        calc.create_new_calculation(lithium_hydride())
    assert order == [*names[:3], 'calculate', names[3]]


@pytest.mark.parametrize('way', ['new', 'move', 'cell'])
def test_first_potential(way):
    """Made of a complete, normalised density, which can be replaced; the one after is as usual."""
    calc, atoms, densities = new_calculation('pw'), lithium_hydride(), []

    def instead(calculate, density, *args, **kwargs):
        densities.append(density)
        assert electrons(density) == pytest.approx(0, abs=0.01 if way == 'move' else 1e-8)  # moved: orbitals' norm
        density.nt_sR.data[:] = density.nt_sR.data.mean()
        return calculate(density, *args, **kwargs)

    def alter(builder):
        seams.on_potential_calculator(builder, lambda pot_calc: seams.on_next_potential(pot_calc, instead))

    if way == 'move':
        atoms.positions[0] += 0.05
        seams.on_next_potential(calc.dft.pot_calc, instead)
        calc.move_atoms(atoms)
    with seams.altered_builders(calc.params, alter):
        if way == 'cell':
            atoms.set_cell(1.02 * atoms.cell.array, scale_atoms=True)
            calc.create_new_calculation_from_old(atoms)
        elif way == 'new':
            calc.create_new_calculation(atoms)
    dft = calc.dft
    assert len(densities) == 1 and densities[0] is dft.density
    assert np.ptp(dft.density.nt_sR.data) == 0
    again, _, _ = dft.pot_calc.calculate(dft.density, dft.ibzwfs)
    np.testing.assert_allclose(dft.potential.vt_sR.data, again.vt_sR.data, atol=1e-8)
    assert len(densities) == 1


def test_first_potential_called_off():
    calc = new_calculation()
    seams.on_next_potential(calc.dft.pot_calc, lambda *_: 1 / 0)()
    calc.dft.pot_calc.calculate(calc.dft.density)


def test_density_is_updated_once_an_iteration(mode):
    dft, calls = new_calculation(mode).dft, []

    def instead(update, *args, **kwargs):
        calls.append(1)
        update(*args, **kwargs)
        seams.on_next_update(dft.density, instead)

    seams.on_next_update(dft.density, instead)
    assert [len(calls) for _ in islice(iterate(dft), 3)] == [0, 1, 2]
    seams.update_as_usual(dft.density)
    dft.density.update(dft.ibzwfs)
    assert len(calls) == 2


def test_calculations_that_have_not_begun(mode):
    calc = new_calculation(mode)
    assert seams.is_unused(calc.dft)
    next(iterate(calc.dft))
    assert not seams.is_unused(calc.dft)


def test_given_keywords():
    params = Parameters(mode='lcao', mixer={'beta': 0.1}, h=None)
    assert seams.is_given(params, 'mixer') and seams.is_given(params, 'mode')
    assert not seams.is_given(params, 'h') and not seams.is_given(params, 'kpts')


def test_creation_is_told():
    calc, times = GPAW(**MODES['pw']), []
    seams.after_creation(calc, lambda: times.append(calc.dft.results.copy()))
    atoms = lithium_hydride()
    calc.get_potential_energy(atoms)
    atoms.positions[0] += 0.01
    calc.get_potential_energy(atoms)
    assert times == [{}]


# --- the loop --------------------------------------------------------------------------------------------------------


class Patient(SCFLoop):
    """Says when it begins."""

    began = False

    def iterate(self, *args, **kwargs):
        self.began = True
        return super().iterate(*args, **kwargs)


def test_loop_of_a_subclass(converged):
    dft = new_calculation(converged.dft.ibzwfs.mode).dft
    loop = dft.scf_loop = seams.loop_of_class(Patient, dft.scf_loop)
    *_, last = iterate(dft)
    assert last.energies.total_extrapolated * Ha == pytest.approx(converged.get_potential_energy(), abs=1e-10)
    assert loop.began and loop.niter == last.niter == converged.get_number_of_iterations()


def test_density_and_potential_can_be_held(mode):
    dft = new_calculation(mode).dft
    before_sR = held = None
    for step, context in enumerate(islice(iterate(dft), 4)):
        if step > 1:
            assert np.array_equal(dft.density.nt_sR.data, before_sR)
            assert context.potential is held
        before_sR, held = dft.density.nt_sR.data.copy(), context.potential
        dft.scf_loop.update_density_and_potential = step < 1


def test_mixer_can_be_replaced(mode):
    dft = new_calculation(mode).dft
    mixer = seams.create_pulay_mixer(new_builder(mode), dft.density, dft.relpos_ac, 0.0123)
    iterations = iterate(dft)
    next(iterations)
    dft.scf_loop.mixer = mixer
    mixer.mix(dft.density)
    before_sR = dft.density.nt_sR.data.copy()
    out_sR, _ = seams.output_density(dft.density, dft.ibzwfs)
    next(iterations)
    change_sR = dft.density.nt_sR.data - before_sR
    assert mixer.beta == 0.0123
    assert 0 < abs(change_sR).sum() < 0.1 * abs(out_sR - before_sR).sum()


def test_mixer_can_be_told_of_other_densities(mode):
    """With two spins; the square of an error adds to the product of that residual with itself alone."""
    dft = new_calculation(mode, spinpol=True, mixer={'name': 'pulay'}).dft
    density, mixer = dft.density, dft.scf_loop.mixer
    nt_sR, D_asii = density.nt_sR.data.copy(), density.D_asii.copy()
    shares = []
    for share in 0.0, 0.5:
        mixer.reset()
        for factor in 1.02, 1.01, 1.0:  # residuals of -2, -1 and 0 %
            density.nt_sR.data[:], density.D_asii.data[:] = factor * nt_sR, factor * D_asii.data
            seams.begin_mixing(mixer, density)
            density.nt_sR.data[:], density.D_asii.data[:] = nt_sR, D_asii.data
            mixer.mix(density)
            if factor == 1.02:
                seams.doubt_last_residual(mixer, density, nt_sR, D_asii, share)
        assert mixer.R_hsX.nold == 3
        shares.append(mixer.H_hh[0, 0])
    product = mixer.H_hh[0, 1]
    assert shares[0] == pytest.approx(2 * product)
    assert shares[1] == pytest.approx(2 * product + 0.25 * 2 * product / 0.02**2)


def new_builder(mode: str):
    builders = []
    calc = GPAW(**MODES[mode])
    with seams.altered_builders(calc.params, builders.append):
        calc.create_new_calculation(lithium_hydride())
    return builders[0]


def test_criteria_can_be_changed_on_the_way(mode):
    dft = new_calculation(mode).dft
    criteria = dict(dft.scf_loop.convergence)
    assert criteria.keys() == {'energy', 'density', 'eigenstates'}
    steps = 0
    for _ in iterate(dft):
        steps += 1
        if steps == 2:
            seams.set_criteria(dft.scf_loop, {})
    assert steps == 2
    seams.set_criteria(dft.scf_loop, criteria)
    assert dft.scf_loop.convergence == criteria


@pytest.mark.parametrize('moments', [None, [0.5, 0.5]])
def test_change_of_the_density_is_what_gpaw_reports(mode, moments):
    dft = new_calculation(mode, magmoms=moments).dft
    density, changes, reported = dft.density, [], []
    for context in islice(iterate(dft), 4):
        reported.append(context.dens.error)
        nt_sR, D_asii = density.nt_sR.data.copy(), density.D_asii.copy()
        density.update(dft.ibzwfs)
        difference_asii = density.D_asii.new(data=density.D_asii.data - D_asii.data)
        changes.append(seams.density_change(density, density.nt_sR.data - nt_sR, difference_asii, dft.scf_loop.mixer))
        density.nt_sR.data[:], density.D_asii.data[:] = nt_sR, D_asii.data
    assert changes[:-1] == pytest.approx(reported[1:], rel=1e-6)


def test_a_reported_change_decides(mode):
    dft = new_calculation(mode).dft
    seams.set_criteria(dft.scf_loop, {'density': dft.scf_loop.convergence['density']})
    steps = 0
    for context in iterate(dft):
        steps += 1
        seams.report_change(context, 0.0 if steps == 2 else 1.0)
    assert steps == 2


def test_a_criterion_that_is_met_counts_as_met(mode):
    dft = new_calculation(mode).dft
    loop, steps = dft.scf_loop, 0
    criterion = loop.convergence['energy']
    criterion.tol = 0.0  # never reached
    seams.set_criteria(loop, {'energy': criterion})
    for context in iterate(dft):
        steps += 1
        assert seams.energy_tolerance(loop, context) == 0.0
        criterion.tol = 0.25
        assert seams.energy_tolerance(loop, context) == 0.25 * dft.density.nvalence
        criterion.tol = 0.0
        if steps == 2:
            met = seams.Met(criterion)
            seams.set_criteria(loop, {'energy': met})
            assert float(met(context)[1]) == pytest.approx(context.energies.total_extrapolated * Ha, abs=1e-5)
    assert steps == 2
    seams.set_criteria(loop, {'density': 'another'})
    assert seams.energy_tolerance(loop, context) is None


def test_output_density_is_what_an_update_makes(mode):
    dft = new_calculation(mode).dft
    next(iterate(dft))
    before_sR, before_asii = dft.density.nt_sR.data.copy(), dft.density.D_asii.copy()
    nt_sR, D_asii = seams.output_density(dft.density, dft.ibzwfs)
    assert np.array_equal(dft.density.nt_sR.data, before_sR)
    assert np.array_equal(dft.density.D_asii.data, before_asii.data)
    dft.density.update(dft.ibzwfs)
    assert dft.density.D_asii.data == pytest.approx(D_asii.data, abs=EXACT)
    scale = dft.density.nt_sR.data.sum() / nt_sR.sum()  # LCAO normalises
    assert scale == pytest.approx(1, abs=EXACT if mode == 'pw' else 0.02)
    assert dft.density.nt_sR.data == pytest.approx(scale * nt_sR, rel=1e-9)


def test_numbers_of_a_density(converged):
    """nvalence − charge are the electrons, and ``pot_calc.charge`` is a background: here none."""
    density = converged.dft.density
    assert density.nvalence - density.charge == 2  # one each
    assert converged.dft.pot_calc.charge == 0
    assert electrons(density) == pytest.approx(0, abs=1e-4)
    for delta_iiL, setup in zip(density.delta_aiiL, converged.dft.setups, strict=True):
        assert np.array_equal(delta_iiL, setup.Delta_iiL)


# --- orbitals --------------------------------------------------------------------------------------------------------


def test_orbitals_are_put_back(mode):
    """So that the next step is the same, to the last bit."""
    dft = new_calculation(mode, convergence={'minimum iterations': 9}).dft
    dft.scf_loop.update_density_and_potential = False
    iterations = iterate(dft)
    next(iterations)
    kept = seams.Orbitals(dft.ibzwfs)
    energies, occupations = [], []
    for _ in range(2):
        kept.put(dft.ibzwfs)
        dft.scf_loop.eigensolver = new_builder(mode).create_eigensolver(dft.scf_loop.hamiltonian)
        energies.append(next(iterations).energies.total_free)
        occupations.append([wfs.occ_n.copy() for wfs in dft.ibzwfs])
        next(iterations)
    assert energies[0] == energies[1]
    assert np.array_equal(*occupations)


def test_orbitals_are_made_anew(mode):
    fresh, used, builder = new_calculation(mode).dft, new_calculation(mode).dft, new_builder(mode)
    potential = used.potential
    for _ in islice(iterate(used), 3):
        pass
    seams.remake_orbitals(used, builder, potential)
    for wfs, other in zip(used.ibzwfs, fresh.ibzwfs, strict=True):
        assert wfs.has_eigs == other.has_eigs
        if wfs.has_eigs:
            assert wfs.eig_n == pytest.approx(other.eig_n, abs=1e-8)
            assert wfs.occ_n == pytest.approx(other.occ_n)


# --- forces and stress -----------------------------------------------------------------------------------------------


def test_forces_are_calculated_anew(converged):
    forces_av = seams.forces_at_density(converged.dft)
    assert forces_av * Ha / Bohr == pytest.approx(converged.get_forces(), abs=1e-10)
    converged.dft.results['forces'][:] = 7.0
    assert seams.forces_at_density(converged.dft) == pytest.approx(forces_av, abs=1e-10)
    assert (converged.dft.results['forces'] != 7.0).all()


def test_parts_of_the_forces(converged):
    """With those of orbitals and smooth cores they are GPAW's forces; no density of before is left in them."""
    dft = converged.dft
    density, potential = dft.density, dft.potential
    whole_av = dft.ibzwfs.forces(potential, dft.scf_loop.hamiltonian, density.D_asii)
    vt_R = potential.vt_sR[0]
    vt_X = vt_R.fft(pw=dft.pot_calc.pw) if seams.has_stress(dft) else vt_R
    for a, core_1v in density.nct_aX.derivative(vt_X).items():
        whole_av[a] += core_1v[:, 0]
    part_av = seams.forces_of_potential(dft, potential)
    assert whole_av + part_av == pytest.approx(seams.forces_at_density(dft), abs=1e-8)
    density.nt_sR.data *= 1.1
    changed_av = seams.forces_of_potential(dft, potential)
    density.nt_sR.data /= 1.1
    assert abs(changed_av - part_av).max() > 1e-4


def test_quick_forces_of_compensation_charges(converged):
    """Those of GPAW, of one expansion of the charges for each potential; nothing stays behind."""
    dft = converged.dft
    solver = getattr(dft.pot_calc, 'poisson_solver', None)
    whole_av, part_av = seams.forces_at_density(dft), seams.forces_of_potential(dft, dft.potential)
    with seams.quick_charge_forces(dft):
        assert seams.forces_at_density(dft) == pytest.approx(whole_av, abs=1e-9)
        assert seams.forces_of_potential(dft, dft.potential) == pytest.approx(part_av, abs=1e-9)
        if dft.ibzwfs.mode == 'pw':
            first = solver.ghat_aLh.derivative(dft.potential.vHt_x)
            assert solver.ghat_aLh.derivative(dft.potential.vHt_x) is first
            assert solver.ghat_aLh.derivative(dft.potential.vHt_x.copy()) is not first
    assert dft.ibzwfs.mode != 'pw' or 'derivative' not in vars(solver.ghat_aLh)


def test_stress_of_plane_waves(converged):
    dft = converged.dft
    assert seams.has_stress(dft) == (dft.ibzwfs.mode == 'pw')
    if seams.has_stress(dft):
        stress_vv = seams.stress_of_potential(dft, dft.potential) * Ha / Bohr**3
        assert stress_vv.flat[[0, 4, 8, 5, 2, 1]] == pytest.approx(converged.get_stress(), abs=1e-10)


def test_parts_of_a_potential(converged):
    potential = converged.dft.potential
    other = seams.electrostatics_of(potential, potential.vt_sR.new(zeroed=True), potential.dH_asii)
    assert other.vHt_x is potential.vHt_x and np.array_equal(other.e_stress, potential.e_stress, equal_nan=True)
    assert not other.vt_sR.data.any() and other.dH_asii is potential.dH_asii and other.dedtaut_sR is None


# --- datasets --------------------------------------------------------------------------------------------------------


def test_what_datasets_say():
    """Names and units of what is read from them: electrons of the atom, projectors, shape of compensation charges."""
    for setup in new_calculation().dft.setups:
        f_si = setup.calculate_initial_occupation_numbers(0.0, False, charge=0.0, nspins=1)
        assert f_si.sum() == pytest.approx(setup.Nv) and setup.Nv + setup.Nc == pytest.approx(setup.Z)
        assert sum(2 * l + 1 for l in setup.l_j) == setup.ni == len(setup.dO_ii) == len(setup.Delta_iiL)
        assert [pt.get_angular_momentum_number() for pt in setup.pt_j] == list(setup.l_j)
        shape = setup.data.shape_function
        r_g = np.linspace(0, 3 * shape['rc'], 200)
        for l, ghat in enumerate(setup.ghat_l):
            norm = 2 / (gamma(l + 1.5) * shape['rc'] ** (2 * l + 3))
            gauss_g = norm * np.exp(-((r_g / shape['rc']) ** 2))
            assert ghat.map(r_g) == pytest.approx(gauss_g, abs=COMPENSATION_CHARGES * norm)
        assert setup.Delta_iiL.shape[2] == len(setup.ghat_l) ** 2


def test_steps_are_told(converged):
    """``hooks['scf_step']`` is called after each iteration, with its number, energy and change of the density."""
    calc, seen = GPAW(txt=None, **dict(converged.params.todict())), []
    calc.hooks['scf_step'] = lambda context: seen.append(
        (context.niter, context.energies.total_extrapolated * Ha, context.dens.error / context.wfs.nvalence)
    )
    energy = calc.get_potential_energy(lithium_hydride())
    niter, energies, changes = zip(*seen, strict=True)
    assert niter == tuple(range(1, calc.get_number_of_iterations() + 1))
    assert energies[-1] == pytest.approx(energy) and changes[-1] < 1e-4


# --- the log ---------------------------------------------------------------------------------------------------------


def test_log_is_opened_late(tmp_path):
    path = tmp_path / 'log.txt'
    path.write_text('precious')
    log, open_file = seams.deferred_logger(path, None)
    log('before')
    assert path.read_text() == 'precious'
    open_file()
    open_file()
    log('after')
    log.close()
    assert path.read_text() == 'before\nafter\n'
    assert log.fd.closed
