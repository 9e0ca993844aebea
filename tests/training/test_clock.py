import numpy as np
import pytest

from ase_deepdensity.training.clock import FLOOR, Clock


def test_steps_make_a_smooth_schedule_that_depends_on_nothing_else():
    clock = Clock(1000, None, 50)
    rate_t = np.array([clock.rate(step) for step in range(1000)])
    assert rate_t[0] == pytest.approx(1 / 50**2) and rate_t.argmax() == 49
    assert rate_t[-1] == pytest.approx(FLOOR, abs=1e-4)
    assert abs(np.diff(rate_t)).max() < 0.045
    assert (rate_t == [Clock(1000, None, 50).rate(step) for step in range(1000)]).all()
    assert not clock.is_over(999) and clock.is_over(1000)


def test_the_end_is_guessed_from_steps_until_it_is_measured(monkeypatch):
    time = [0.0]
    monkeypatch.setattr('ase_deepdensity.training.clock.now', lambda: time[0])
    clock = Clock(1, 1.0, 1)
    clock.steps_to_validate = 6.0
    for seconds in 30.0, 1.0, 1.0, 1.0, 1.0, 1.0:  # the first one compiles
        time[0] += seconds
        clock.step_taken()
    assert clock.ending == 6.0
    assert clock.fraction(5) == pytest.approx((35 + 6) / 60)
    clock.validated(10.0)
    assert clock.ending == 10.0
    clock.resume(14.0)
    assert clock.fraction(5) == pytest.approx((35 + 14 + 10) / 60) and not clock.is_over(5)
    time[0] += 1.0
    assert clock.is_over(6)
