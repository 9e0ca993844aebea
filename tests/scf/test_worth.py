"""Error bars decide before a calculation starts whether its seed is worth it."""

import io
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk

from ase_deepdensity.model import DensityModel
from ase_deepdensity.scf.calculator import SeededGPAW
from ase_deepdensity.scf.protocol import Hold, Protocol, SeedReport, Start

FAST = {'mode': {'name': 'pw', 'ecut': 250}, 'xc': 'PBE', 'kpts': (1, 1, 1), 'maxiter': 40}


@pytest.fixture(scope='module')
def model() -> DensityModel:
    return DensityModel.load('general-pbe-pw400')


def doubtful(model: DensityModel, factor: float) -> DensityModel:
    """The same with error bars larger by a factor."""
    state = model.error_bars.state_dict()
    offset_s = state['offset_s'].clone()
    offset_s[0] += np.log(factor)
    return replace(model, error_bars=type(model.error_bars)(**state | {'offset_s': offset_s}))


def start(model: DensityModel, **kwargs) -> tuple[SeededGPAW, str]:
    """One that is set up, and its log."""
    atoms = bulk('Si', a=5.45)
    log = io.StringIO()
    calc = SeededGPAW(model, txt=log, **FAST | kwargs)
    atoms.calc = calc
    calc.create_new_calculation(atoms)
    return calc, log.getvalue()


def test_a_seed_that_is_worth_it_is_used_and_the_log_says_so(model):
    calc, log = start(model)
    report = calc.seed_report
    assert report.accepted and 0 < report.expected < report.superposition
    assert f'NMAE {report.expected:.2g} % of the seed' in log and 'the seed is used' in log


def test_a_seed_that_is_expected_to_be_worse_is_not_used(model):
    used, _ = start(model)
    factor = 1.5 * used.seed_report.superposition / used.seed_report.expected
    calc, log = start(doubtful(model, factor))
    report = calc.seed_report
    assert not report.accepted and report.expected > report.superposition
    assert 'the seed is not used' in log and 'not expected to be closer than a superposition' in log
    assert not np.allclose(calc.dft.density.nt_sR.data, used.dft.density.nt_sR.data)
    calc, _ = start(doubtful(model, factor), protocol=Protocol(worth=np.inf))
    assert calc.seed_report.accepted, 'the user wants it'
    np.testing.assert_allclose(calc.dft.density.nt_sR.data, used.dft.density.nt_sR.data)


def test_without_error_bars_nothing_is_said(model):
    calc, log = start(replace(model, error_bars=None))
    assert calc.seed_report.accepted and np.isnan(calc.seed_report.expected) and 'expected' not in log


@pytest.mark.parametrize(
    ('expected', 'protocol', 'verdict'),
    [
        (np.nan, Protocol(), 'hold'),
        (0.3, Protocol(), 'hold'),
        (1.8, Protocol(), 'release'),
        (1.8, Protocol(doubtful=np.inf), 'hold'),
        (0.3, Protocol(doubtful=0.2), 'release'),
    ],
)
def test_what_is_expected_to_be_far_off_is_held_for_one_step(expected, protocol, verdict):
    start = Start(SeedReport('a seed', expected=expected), default=None, occupations=None, protocol=protocol)
    hold = Hold(start, direct=False)
    hold.judge(0.02, lambda: 0.01)
    assert hold.verdict == verdict
