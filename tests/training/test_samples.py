import numpy as np
import pytest
import torch

from ase_deepdensity.training.least_squares import fit_coefficients, written
from ase_deepdensity.training.loss import total_matrices
from ase_deepdensity.training.samples import GridSampler, Sample
from tests.tiny import BASIS
from tests.tolerances import FLOAT32


@pytest.fixture(params=[0, 1], ids=['molecule', 'box'])
def sample(request, dataset, tiny_model) -> Sample:
    return Sample.from_snapshot(
        dataset[request.param],
        'name',
        tiny_model.network,
        tiny_model.superposition,
        torch.device('cpu'),
        keep_density=True,
    )


def test_target_is_what_the_model_added(sample, dataset, tiny_model):
    system = sample.system
    with torch.no_grad():
        output = tiny_model.network(system)
        density_R, target_R, points = GridSampler(BASIS)(sample, output, 1)
    assert points == 1
    assert target_R.shape == sample.grid.shape
    largest = max(float(snapshot.density.nt_sR.max()) for snapshot in dataset)
    error_R = sample.normalized_error(density_R - target_R, total_matrices(output))
    np.testing.assert_allclose(error_R, 0, atol=FLOAT32 * largest)
    assert sample.D_zaii.keys() == output.D_zesaii.keys()
    for Z, D_aii in total_matrices(output).items():
        np.testing.assert_allclose(sample.D_zaii[Z], D_aii, atol=1e-5)


def test_cosets_are_parts_of_the_grid(sample, tiny_model):
    sampler = GridSampler(BASIS)
    with torch.no_grad():
        output = tiny_model.network(sample.system)
        whole_R, _, _ = sampler(sample, output, 1)
        stride_c = sampler.strides(sample.grid, 2)
        assert stride_c.max() == 2
        seen = set()
        for seed in range(8):
            rng = np.random.default_rng(seed)
            coset_R, target_R, points = sampler(sample, output, 2, rng)
            rng = np.random.default_rng(seed)
            o0, o1, o2 = (int(rng.integers(s)) for s in stride_c)
            seen.add((o0, o1, o2))
            part = np.s_[o0 :: stride_c[0], o1 :: stride_c[1], o2 :: stride_c[2]]
            np.testing.assert_allclose(coset_R, whole_R[part], atol=1e-5 * float(whole_R.abs().max()))
            assert torch.equal(target_R, sample.target_R[part])
            assert points == np.prod(stride_c)
    assert len(seen) > 1


def test_strides_divide_what_wraps_around(sample):
    stride_c = GridSampler(BASIS).strides(sample.grid, 4)
    wraps_c = ~sample.grid.zerobc_c
    assert (sample.grid.size_c[wraps_c] % stride_c[wraps_c] == 0).all()
    assert (stride_c[~wraps_c] == 4).all()


def test_least_squares_reduce_the_residual(sample, tiny_model):
    sampler = GridSampler(BASIS)
    head = tiny_model.network.coefficients
    left = []
    for iterations in 2, 20:
        y = fit_coefficients(sample, sampler, head.expand, head.sizes, iterations)
        density_R, target_R, _ = sampler(sample, written(head.expand(y)), 1)
        left.append(float((density_R - target_R).square().sum() / target_R.square().sum()))
    assert left[1] < left[0] < 1
    assert left[1] < 0.2


def test_normalising_is_that_of_the_state(sample, dataset, tiny_model):
    """Twice the density that the network adds, normalised by torch and by :meth:`.PAWDensity.normalized`."""
    snapshot = next(s for s in dataset if len(s.atoms) == sample.natoms)
    error_R = 2 * sample.target_R
    D_zaii = {Z: 1.01 * D_aii for Z, D_aii in sample.D_zaii.items()}
    state = snapshot.density.new(
        nt_sR=snapshot.density.nt_sR + error_R.numpy()[np.newaxis],
        D_asii=[1.01 * D_sii for D_sii in snapshot.density.D_asii],
    ).normalized()
    expected_R = (state.nt_sR - snapshot.density.nt_sR)[0]
    largest = float(snapshot.density.nt_sR.max())
    np.testing.assert_allclose(sample.normalized_error(error_R, D_zaii), expected_R, rtol=0, atol=FLOAT32 * largest)
    nothing_R = -sample.nt_R
    assert not sample.normalized_error(nothing_R, D_zaii).isfinite().any()
