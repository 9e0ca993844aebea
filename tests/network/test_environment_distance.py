import numpy as np
import pytest
import torch

from ase_deepdensity.network.environment_distance import EnvironmentDistance, NearestNeighborDistance
from tests.tolerances import FLOAT32

SLICES = [slice(0, 300), slice(300, 500)]


def features() -> torch.Tensor:
    """Two species, the first in two separate groups; all in a space of 24 of 30 dimensions, but for a little noise."""
    rng = np.random.default_rng(0)
    x_ac = rng.normal(size=(500, 24)) @ rng.normal(size=(24, 30))
    x_ac += 1e-3 * rng.normal(size=x_ac.shape)
    x_ac[:20] += 40
    return torch.from_numpy(x_ac).float()


def fit(**kwargs) -> EnvironmentDistance:
    return EnvironmentDistance.fit([features()[rows] for rows in SLICES], **kwargs)


@pytest.mark.parametrize('dimensions', [8, 96])
def test_training_atoms_are_familiar(dimensions):
    distance_a = fit(dimensions=dimensions)(features(), SLICES)
    assert distance_a.shape == (500,)
    assert 0 < distance_a.min() and distance_a.max() < 2
    assert (distance_a > 1).float().mean() < 0.12


def test_new_atoms_like_these_and_unlike_these():
    x_ac = features()
    distance = EnvironmentDistance.fit([x_ac[20:160], x_ac[300:400]])
    new = distance(torch.cat([x_ac[160:300], x_ac[400:500]]), [slice(0, 140), slice(140, 240)])
    assert new.quantile(0.95) < 1.6 and new.max() < 2
    other_group = distance(x_ac[:20], [slice(0, 20), slice(20, 20)])
    assert other_group.min() > 2
    assert distance(10 * x_ac[300:305], [slice(0, 0), slice(0, 5)]).min() > 2


@pytest.mark.parametrize('dimensions', [24, 96])
def test_nothing_new_is_hidden(dimensions):
    """Half a standard deviation, in any direction in which the training atoms do not vary."""
    x_ac, distance = features(), fit(dimensions=dimensions)
    mean_c, std_c = x_ac[300:].mean(0), x_ac[300:].std(0)
    _, _, direction_cc = torch.linalg.svd((x_ac[300:] - mean_c) / std_c)
    for direction_c in direction_cc[24:]:
        assert distance((mean_c + 0.5 * std_c * direction_c)[None], [slice(0, 0), slice(0, 1)]) > 1.5


def test_features_that_never_vary():
    x_ac = features()
    x_ac[:, 3] = 2.0
    distance = EnvironmentDistance.fit([x_ac])
    assert distance(x_ac, [slice(0, 500)]).max() < 2
    x_ac[7, 3] += 0.5
    assert distance(x_ac, [slice(0, 500)])[7] > 3


@pytest.mark.parametrize('number', [1, 3])
def test_few_atoms(number):
    x_ac = features()[:number]
    distance_a = EnvironmentDistance.fit([x_ac])(x_ac, [slice(0, number)])
    assert torch.isfinite(distance_a).all() and distance_a.max() < 1


def test_numbers_that_are_not_finite():
    x_ac = features()
    x_ac[5, 2] = torch.nan
    distance_a = fit()(x_ac, SLICES)
    assert distance_a.isnan().nonzero().flatten().tolist() == [5]
    with pytest.raises(ValueError, match='training atoms are not finite'):
        EnvironmentDistance.fit([x_ac])
    for name in EnvironmentDistance.NAMES:
        state = {key: tensor.clone() for key, tensor in fit().state_dict().items()}
        state[name].flatten()[0] = torch.inf
        with pytest.raises(ValueError, match=f'numbers in {name} that are not finite'):
            EnvironmentDistance.from_state_dict(state)


def test_state():
    distance = fit()
    again = EnvironmentDistance.from_state_dict(distance.state_dict())
    assert torch.equal(again(features(), SLICES), distance(features(), SLICES))


def test_files_of_the_first_versions():
    """Distances along some directions from the nearest of some environments, of the first features only."""
    kept_sxk = torch.tensor([[[0.0, 0.0], [4.0, 0.0]]])
    state = {
        'mean_sc': torch.tensor([[1.0, 1.0, 1.0]]),
        'whiten_sck': torch.tensor([[[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]]),
        'kept_sxk': kept_sxk,
        'limit_s': torch.tensor([2.0]),
    }
    distance = EnvironmentDistance.from_state_dict(state)
    assert isinstance(distance, NearestNeighborDistance)
    x_ac = torch.tensor([[1.0, 1.0, 9.0, 7.0], [4.0, 1.0, 0.0, 0.0], [1.0, 4.0, 0.0, 0.0]])
    assert distance(x_ac, [slice(0, 3)]).tolist() == pytest.approx([0, 0.5, 3])
    assert distance.state_dict().keys() == state.keys()


def test_few_atoms_of_one_species_among_many():
    """What the others vary in, a species with three atoms may vary in too; what nothing varies in, it may not."""
    x_ac = features()
    few = EnvironmentDistance.fit([x_ac[300:400], x_ac[400:403] + 2])
    like = few(x_ac[403:500] + 2, [slice(0, 0), slice(0, 97)])
    alone = EnvironmentDistance.fit([x_ac[400:403] + 2])(x_ac[403:500] + 2, [slice(0, 97)])
    assert like.median() < 2.5 and like.median() < 0.1 * alone.median()
    _, _, direction_cc = torch.linalg.svd(x_ac[300:] - x_ac[300:].mean(0))
    strange = x_ac[400:403].mean(0) + 2 + x_ac.std() * direction_cc[-1]
    assert few(strange[None], [slice(0, 0), slice(0, 1)]) > 5


def test_size_for_many_species():
    rng = torch.Generator().manual_seed(0)
    many = EnvironmentDistance.fit([torch.randn(20, 192, generator=rng) for _ in range(83)])
    assert sum(tensor.nbytes for tensor in many.state_dict().values()) < 1.3e6
    assert EnvironmentDistance.fit([torch.randn(200, 192, generator=rng)]).whiten_sck.shape == (1, 192, 96)


def test_species_of_several_together():
    one, other = fit(dimensions=8), fit(dimensions=16)
    both = EnvironmentDistance.together([(one, 1), (other, 0), (one, 0)])
    x_ac = features()
    expected = [one(x_ac, [slice(0, 0), slice(0, 500)]), other(x_ac, [slice(0, 500)]), one(x_ac, [slice(0, 500)])]
    for z, distance_a in enumerate(expected):
        rows_z = [slice(0, 0)] * z + [slice(0, 500)]
        torch.testing.assert_close(both(x_ac, rows_z), distance_a, rtol=FLOAT32, atol=10 * FLOAT32)
