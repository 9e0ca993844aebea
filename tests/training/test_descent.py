"""The way of the weights, on a network that is two numbers."""

import numpy as np
import pytest
import torch

from ase_deepdensity.training.clock import Clock
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.descent import FLOOR, Descent, relative_rate


def descent(steps: int = 1000, **settings) -> Descent:
    torch.manual_seed(0)
    config = TrainingConfig(steps=steps, **settings)
    return Descent(torch.nn.Linear(1, 1), config, Clock(config.steps, config.minutes))


def advance(descent: Descent, number: int) -> list[torch.Tensor]:
    """Take steps down a parabola; returns the weights after each."""
    taken = []
    for _ in range(number):
        descent.differentiate(sum((p - 1).square().sum() for p in descent.network.parameters()))
        descent.advance()
        taken.append(torch.cat([p.detach().flatten() for p in descent.network.parameters()]))
    return taken


def test_the_rate_is_smooth():
    rate_t = np.array([relative_rate(step, 50, step / 1000) for step in range(1000)])
    assert rate_t[0] == pytest.approx(1 / 50**2) and rate_t.argmax() == 49
    assert rate_t[-1] == pytest.approx(FLOOR, abs=1e-4)
    assert abs(np.diff(rate_t)).max() < 0.045


def test_each_step_has_its_rate():
    way = descent(steps=20, warmup=5, learning_rate=0.1)
    rates = []
    for _ in range(20):
        rates.append(way.rate)
        advance(way, 1)
    assert rates == pytest.approx([0.1 * relative_rate(step, 5, step / 20) for step in range(20)])


def test_with_minutes_the_rate_follows_the_time(monkeypatch):
    time = [0.0]
    monkeypatch.setattr('ase_deepdensity.training.clock.now', lambda: time[0])
    way = descent(minutes=1.0, warmup=1, learning_rate=0.1)
    time[0] += 30.0
    advance(way, 1)
    assert way.rate == pytest.approx(0.1 * relative_rate(1, 1, 0.5))


def test_the_average_forgets_the_first_weights_and_remembers_the_last():
    way = descent(averaging=0.9, warmup=1, learning_rate=0.1)
    expected_i = None
    for n, weights_i in enumerate(advance(way, 300)):
        decay = min(0.9, n / (n + 20))
        expected_i = weights_i if expected_i is None else decay * expected_i + (1 - decay) * weights_i
    average_i = torch.cat([p.flatten() for p in way.averaged_network.parameters()])
    torch.testing.assert_close(average_i, expected_i)
    assert not torch.equal(average_i, weights_i)


def test_gradients_are_clipped_and_their_norm_is_told():
    way = descent(clip=0.5)
    norm = way.differentiate(100 * sum((p - 7).square().sum() for p in way.network.parameters()))
    left = torch.cat([p.grad.flatten() for p in way.network.parameters()]).norm()
    assert norm > 100 and left == pytest.approx(0.5, rel=1e-4)


def test_it_goes_on_from_its_state(tmp_path):
    whole = advance(descent(), 20)
    first = descent()
    advance(first, 8)
    torch.save(first.state_dict(), tmp_path / 's')
    again = descent()
    again.load_state_dict(torch.load(tmp_path / 's', weights_only=True))
    assert torch.equal(torch.stack(advance(again, 12)), torch.stack(whole[8:]))
    advance(first, 12)
    pairs = zip(again.averaged_network.parameters(), first.averaged_network.parameters(), strict=True)
    for parameter, expected in pairs:
        assert torch.equal(parameter, expected)
