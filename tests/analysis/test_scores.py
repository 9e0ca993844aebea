from dataclasses import replace

import numpy as np
import pytest

from ase_deepdensity.analysis.compare import density_matrix_error
from ase_deepdensity.analysis.scores import mean_scores, model_means, reference_spreads, score
from ase_deepdensity.codes.gpaw.reference import snapshot_from_calculator


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
    assert rows[0].to_dict()['epsilon_D']['O'] is None and 'matrix_squares' not in rows[0].to_dict()
    assert list(mean['epsilon_D']) == ['H', 'O', 'total']


def test_epsilon_of_a_set_is_that_of_all_its_snapshots_together(snapshot):
    """Two snapshots, one of which hardly differs from the means: alone it would have a huge error."""
    states = [snapshot.density.new(D_asii=[f * D_sii for D_sii in snapshot.density.D_asii]) for f in (1.001, 1.5)]
    snapshots = [replace(snapshot, density=state) for state in states]
    means = {Z: snapshot.density.D_asii[a] for a, Z in enumerate(snapshot.atoms.numbers.tolist())}
    spreads = reference_spreads(snapshots, means)
    wrong = [state.new(D_asii=[D_sii + 0.01 for D_sii in state.D_asii]) for state in states]
    rows = [
        score(lambda atoms, grid, state=state: state, reference, means, spreads=spreads)
        for state, reference in zip(wrong, snapshots, strict=True)
    ]
    together = density_matrix_error(wrong, states, means)
    assert mean_scores(rows)['epsilon_D'] == pytest.approx(together)
    assert [row.comparison.epsilon_D for row in rows] == [pytest.approx(together)] * 2, 'the same error in both'
    alone = density_matrix_error(wrong[:1], states[:1], means)
    assert alone['O'] > 100 * together['O']


def test_means_of_a_model(tiny_model):
    means = model_means(tiny_model)
    assert {Z: mean_sii.shape for Z, mean_sii in means.items()} == {1: (1, 5, 5), 8: (1, 13, 13)}
    assert np.array_equal(means[8][0], tiny_model.network.mean_zii[8].double())


def test_spreads_need_the_means_of_all_elements(snapshot):
    with pytest.raises(ValueError, match='no mean density matrix for O'):
        reference_spreads([snapshot], {1: snapshot.density.D_asii[1]})
