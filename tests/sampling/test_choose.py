"""Which structures a model would learn most from."""

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read, write

from ase_deepdensity.cli.main import main
from ase_deepdensity.model import DensityModel
from ase_deepdensity.sampling.choose import NOISE, Knowledge, Uncertainty, choose, environments, most_telling

pytestmark = pytest.mark.filterwarnings('ignore:Set OLD_ERROR_HANDLING:DeprecationWarning')  # spglib's
N = 6


def random_features(rng, count, elements=(1, 8)):
    return [{Z: rng.normal(size=(int(rng.integers(1, 4)), N)) for Z in elements} for _ in range(count)]


def information(features, known, pool):
    """Of all of them together, from the Gram matrices themselves."""
    knowledge = Knowledge(known, pool)
    total = 0.0
    for Z, inverse_cc in knowledge.inverse_zcc.items():
        x_ac = np.concatenate([one[Z] for one in features]) - knowledge.mean_zc[Z]
        x_ac = x_ac * knowledge.scale_c
        total += 0.5 * np.linalg.slogdet(np.linalg.inv(inverse_cc) + x_ac.T @ x_ac)[1]
        total += 0.5 * np.linalg.slogdet(inverse_cc)[1]
    return total


def test_gains_add_up_to_what_all_tell_together():
    rng = np.random.default_rng(0)
    known, pool = random_features(rng, 5), random_features(rng, 8)
    knowledge, gains = Knowledge(known, pool), []
    for features in pool:
        gains.append(knowledge.gain(features))
        knowledge.add(features)
    assert sum(gains) == pytest.approx(information(pool, known, pool), rel=1e-9)


def test_each_choice_is_the_best_of_all_that_are_left():
    rng = np.random.default_rng(1)
    known, pool, seconds = random_features(rng, 3), random_features(rng, 12), rng.uniform(1, 9, 12)
    order, knowledge = list(choose(pool, known, seconds)), Knowledge(known, pool)
    assert sorted(order) == list(range(12))
    for i, n in enumerate(order):
        rates = {m: knowledge.gain(pool[m]) / seconds[m] for m in order[i:]}
        assert rates[n] == pytest.approx(max(rates.values()), rel=1e-9)
        knowledge.add(pool[n])


def test_what_is_known_or_chosen_already_comes_last():
    rng = np.random.default_rng(2)
    known = random_features(rng, 20, (8,))
    new, other = ({8: 100 * rng.normal(size=(1, N))} for _ in range(2))  # in different directions
    pool = [known[0], new, new, other, known[1]]
    order = list(choose(pool, known, [1.0] * 5))
    assert set(order[:2]) in ({1, 3}, {2, 3}) and set(order[3:]) == {0, 4}


def test_uncertainty_is_that_of_a_linear_layer():
    """Against ridge regression itself, of all that was learned at once."""
    rng = np.random.default_rng(3)
    pool, known = random_features(rng, 7), random_features(rng, 3)
    uncertainty, total = Uncertainty(pool), 0.0
    for features in known:
        before, gain = uncertainty.total(), uncertainty.gain(features)
        uncertainty.learn(features)
        assert before - uncertainty.total() == pytest.approx(gain, rel=1e-9)
    for Z in (1, 8):
        unit = np.sqrt((np.concatenate([one[Z] for one in pool]) ** 2).sum(1).mean())
        x_ac = np.concatenate([one[Z] for one in known]) / unit
        covariance_cc = np.linalg.inv(np.eye(N) + x_ac.T @ x_ac / NOISE)
        for one in pool:
            y_ac = one[Z] / unit
            total += np.sqrt(np.einsum('ac, cd, ad -> a', y_ac, covariance_cc, y_ac)).sum() / sum(
                map(len, one.values())
            )
    assert uncertainty.total() == pytest.approx(total, rel=1e-9)


def test_what_most_have_in_common_is_told_first():
    """Not what is unlike all others, which is the first choice of information; then what is still unknown."""
    rng = np.random.default_rng(4)
    common, rare, odd = np.eye(N)[:3]
    pool = [{8: scale * x[None] + 0.01 * rng.normal(size=(1, N))} for scale, x in [(1, common)] * 6 + [(1, rare)] * 2]
    pool.append({8: 1.4 * odd[None]})
    assert next(choose(pool, [], [1.0] * len(pool))) == 8
    order = list(most_telling(pool, []))
    assert sorted(order) == list(range(9))
    assert order[0] < 6 <= order[1], order
    assert next(most_telling(pool[1:], pool[:1])) >= 5, 'what is known is not chosen again'


def test_elements_that_are_not_in_the_pool_tell_nothing():
    uncertainty = Uncertainty([{8: np.ones((2, N))}])
    total = uncertainty.total()
    assert uncertainty.gain({1: np.ones((1, N))}) == 0.0
    uncertainty.learn({1: np.ones((1, N))})
    assert uncertainty.total() == total


def test_environments_are_those_of_each_frame():
    model = DensityModel.load('organics-pbe-pw400')
    frames = [molecule(name, vacuum=3.0, pbc=True) for name in ('CH3CH2OH', 'CH4', 'CH3OCH3')]
    together, alone = environments(frames, model), [environments([atoms], model)[0] for atoms in frames]
    for one, other in zip(together, alone, strict=True):
        assert one.keys() == other.keys()
        assert all(np.allclose(one[Z], other[Z], atol=1e-4) for Z in one)
    assert together[0][1].shape[0] == 6 and 8 not in together[1]


def test_command(tmp_path, capsys):
    pytest.importorskip('spglib')
    pool = [molecule(name, vacuum=3.0, pbc=True) for name in ('CH4', 'CH4', 'CH3CH2OH', 'SiH4')]
    write(tmp_path / 'pool.xyz', pool)
    argv = ['choose', str(tmp_path / 'pool.xyz'), str(tmp_path / 'next.xyz'), '--model', 'organics-pbe-pw400']
    assert main([*argv, '-n', '3']) == 0
    chosen = [atoms.get_chemical_formula() for atoms in read(tmp_path / 'next.xyz', ':')]
    assert chosen[0] == 'H4Si' and sorted(chosen[1:]) == ['C2H6O', 'CH4'], 'one of two that are the same'
    assert '3 of 4 geometries' in capsys.readouterr().out
    assert main([*argv, '--hours', '1e-6']) == 2
    assert 'the first geometry alone' in capsys.readouterr().err
