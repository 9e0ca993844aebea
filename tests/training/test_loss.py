"""Losses on made-up numbers: components, members, species that are not there."""

import pytest
import torch

from ase_deepdensity.training.loss import (
    absolute_error,
    charbonnier,
    density_loss,
    difference,
    matrix_loss,
    matrix_squares,
    mean_spreads,
    total_matrix_error,
)

SPECIES = 1, 6, 8


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def mean_zii():
    return {Z: torch.randn(ni, ni) for Z, ni in zip(SPECIES, (2, 3, 4), strict=True)}


def matrices(nspins: int, **natoms_z: int) -> dict[int, torch.Tensor]:
    sizes = {1: 2, 6: 3, 8: 4}
    return {int(Z[1:]): torch.randn(nspins, n, sizes[int(Z[1:])], sizes[int(Z[1:])]) for Z, n in natoms_z.items()}


def test_charbonnier_is_the_absolute_value_but_for_a_round_bottom():
    x = torch.tensor([-1.0, 0.0, 1e-4, 2.0])
    loss = charbonnier(x, 0.01)
    torch.testing.assert_close(loss[[0, 3]], x.abs()[[0, 3]] - 0.01, rtol=1e-3, atol=0)
    assert loss[1] == 0 and loss[2] == pytest.approx(1e-8 / 0.02, rel=1e-2)


def test_figures_are_those_of_spin_densities():
    up_ep, down_ep, weight_p = torch.randn(3, 50), torch.randn(3, 50), torch.rand(50)
    error_esp = torch.stack([up_ep + down_ep, up_ep - down_ep], 1)
    expected = ((up_ep.abs() + down_ep.abs()) * weight_p).sum(1).mean()
    torch.testing.assert_close(absolute_error(error_esp, weight_p), expected)


def test_each_member_has_the_same_target():
    x_esp, target_sp, weight_p = torch.randn(3, 2, 50), torch.randn(2, 50), torch.rand(50)
    losses = [density_loss(difference(x_sp[None], target_sp), weight_p, 0.1) for x_sp in x_esp]
    together = density_loss(difference(x_esp, target_sp), weight_p, 0.1)
    torch.testing.assert_close(together, torch.stack(losses).mean())


@pytest.mark.parametrize(('predicted', 'wanted'), [(1, 2), (2, 1)])
def test_a_magnetisation_that_one_side_lacks_is_zero(predicted, wanted):
    x_esp, target_sp = torch.randn(3, predicted, 5), torch.randn(wanted, 5)
    error_esp = difference(x_esp, target_sp)
    assert error_esp.shape == (3, 2, 5)
    torch.testing.assert_close(error_esp[:, 0], x_esp[:, 0] - target_sp[0])
    torch.testing.assert_close(error_esp[:, 1], x_esp[:, 1] if predicted == 2 else -target_sp[1].expand(3, -1))


@pytest.mark.parametrize('nspins', [1, 2])
def test_squares(mean_zii, nspins):
    D_zsaii = matrices(nspins, n1=4, n8=2)
    D_zesaii = {Z: torch.stack([D_saii + 0.1, D_saii - 0.3]) for Z, D_saii in D_zsaii.items()}
    squares_zsx = matrix_squares(D_zesaii, D_zsaii, mean_zii, SPECIES)
    assert squares_zsx.shape == (3, 2, 3) and not squares_zsx[1].any()
    for z, Z in (0, 1), (2, 8):
        for s in range(nspins):
            number = D_zsaii[Z][s].numel()
            mean = mean_zii[Z] if s == 0 else 0.0
            spread = (D_zsaii[Z][s] - mean).square().sum()
            torch.testing.assert_close(squares_zsx[z, s], torch.tensor([0.05 * number, spread, number]))
        assert nspins == 2 or not squares_zsx[z, 1].any()


def test_the_means_have_the_loss_one(mean_zii):
    """RMS(D − D_ref) over the spread of all snapshots together, for each species and component."""
    D_tzsaii = [matrices(2, n1=2, n8=30), matrices(2, n1=7, n6=5)]
    spread_zs = mean_spreads(D_tzsaii, mean_zii, SPECIES)
    nothing = {1: torch.zeros(2, 2), 6: torch.zeros(3, 3), 8: torch.zeros(4, 4)}
    squares_tzsx = [
        matrix_squares(
            {
                Z: torch.stack([mean_zii[Z], nothing[Z]])[None, :, None].expand(1, 2, D_saii.shape[1], -1, -1)
                for Z, D_saii in D_zsaii.items()
            },
            D_zsaii,
            mean_zii,
            SPECIES,
        )
        for D_zsaii in D_tzsaii
    ]
    assert float(matrix_loss(torch.stack(squares_tzsx).sum(0), spread_zs)) == pytest.approx(1, rel=1e-5)
    assert total_matrix_error(squares_tzsx) == pytest.approx(1, rel=1e-5)


def test_differences_that_are_noise_are_not_divided_by(mean_zii):
    D_zsaii = {8: (mean_zii[8] + 1e-9 * torch.randn(1, 5, 4, 4))}
    spread_zs = mean_spreads([D_zsaii], mean_zii, SPECIES)
    torch.testing.assert_close(spread_zs[2, 0], 1e-6 * mean_zii[8].square().mean())


def test_no_matrices_no_loss():
    squares_zsx = matrix_squares({}, {}, {2: torch.zeros(0, 0)}, (2,))
    assert matrix_loss(squares_zsx, torch.ones(1, 2)) == 0 and total_matrix_error([squares_zsx]) == 0
