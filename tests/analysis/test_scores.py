import numpy as np
import pytest

from ase_deepdensity.analysis.scores import mean_scores, reference_means, score
from ase_deepdensity.reference.gpaw import snapshot_from_calculator


@pytest.fixture
def snapshot(molecule_calc):
    return snapshot_from_calculator(molecule_calc, niter=9, seconds=1.0)


def scaled(snapshot, factor):
    """A model that errs by a factor in ñ."""

    def predict(atoms, grid):
        assert atoms == snapshot.atoms and grid == snapshot.density.grid
        return snapshot.density.new(nt_sR=factor * snapshot.density.nt_sR)

    return predict


def test_score(snapshot):
    means = {number: 0 * snapshot.density.D_asii[a] for a, number in enumerate(snapshot.atoms.numbers)}
    row = score(scaled(snapshot, 1.01), snapshot, means, 'first')
    assert (row.name, row.natoms) == ('first', 3)
    assert row.comparison.nmae == pytest.approx(1.0)
    assert row.comparison.epsilon_D == {'H': 0.0, 'O': 0.0, 'total': 0.0}
    assert row.electrons == pytest.approx(8 + 0.01 * snapshot.density.integral())
    assert 0 < row.seconds < 60


def test_means(snapshot):
    rows = [score(scaled(snapshot, factor), snapshot) for factor in (1.0, 1.02, 0.97)]
    mean = mean_scores(rows)
    assert mean['snapshots'] == 3
    assert mean['nmae'] == pytest.approx(5 / 3)
    assert mean['electron_error'] == pytest.approx(0.05 / 3 * snapshot.density.integral())
    assert mean['epsilon_D']['O'] is None, 'one oxygen atom is its own mean'
    assert rows[0].to_dict()['epsilon_D']['O'] is None
    assert list(mean['epsilon_D']) == ['H', 'O', 'total']


def test_reference_means(snapshot):
    means = reference_means([snapshot, snapshot])
    _, D1_sii, D2_sii = snapshot.density.D_asii
    assert np.allclose(means[1], (D1_sii + D2_sii) / 2) and np.allclose(means[8], snapshot.density.D_asii[0])
