import pytest

from ase_deepdensity.training.clock import Clock


def test_steps_depend_on_nothing_else():
    clock = Clock(1000, None)
    assert [clock.fraction(step) for step in (0, 250, 1000, 1001)] == [0, 0.25, 1, 1]
    assert not clock.is_over(999) and clock.is_over(1000)


def test_the_end_is_guessed_from_steps_until_it_is_measured(monkeypatch):
    time = [0.0]
    monkeypatch.setattr('ase_deepdensity.training.clock.now', lambda: time[0])
    clock = Clock(1, 1.0)
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
