import numpy as np
import torch

from ase_deepdensity.network.familiarity import Familiarity

SLICES = [slice(0, 300), slice(300, 500)]


def features() -> torch.Tensor:
    """Two species; the first in two separate groups."""
    rng = np.random.default_rng(0)
    x_ac = rng.normal(size=(500, 24)) @ rng.normal(size=(24, 24))
    x_ac[:20] += 40
    return torch.from_numpy(x_ac).float()


def test_training_atoms_are_familiar():
    x_ac = features()
    familiarity = Familiarity.fit([x_ac[rows] for rows in SLICES], number=64)
    distance_a = familiarity(x_ac, SLICES)
    assert distance_a.shape == (500,)
    assert 0 <= distance_a.min() and distance_a.max() < 1.01


def test_new_atoms_like_these_and_unlike_these():
    x_ac = features()
    half = [slice(20, 160), slice(300, 400)]
    familiarity = Familiarity.fit([x_ac[rows] for rows in half], number=64)
    new = familiarity(torch.cat([x_ac[160:300], x_ac[400:500]]), [slice(0, 140), slice(140, 240)])
    assert new.quantile(0.95) < 1.5
    other_group = familiarity(x_ac[:20], [slice(0, 20), slice(20, 20)])
    assert other_group.min() > 2
    assert familiarity(10 * x_ac[300:305], [slice(0, 0), slice(0, 5)]).min() > 2


def test_fewer_atoms_than_are_kept():
    x_ac = features()[:3]
    familiarity = Familiarity.fit([x_ac], number=8)
    assert torch.isfinite(familiarity(x_ac, [slice(0, 3)])).all()
    assert familiarity(x_ac, [slice(0, 3)]).max() < 1e-3


def test_state():
    familiarity = Familiarity.fit([features()[rows] for rows in SLICES], number=16)
    again = Familiarity.from_state_dict(familiarity.state_dict())
    assert torch.equal(again(features(), SLICES), familiarity(features(), SLICES))
