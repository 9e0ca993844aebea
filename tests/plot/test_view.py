"""Isosurfaces: where they are, and that a browser draws them."""

import shutil
import subprocess

import numpy as np
import pytest
from ase import Atoms

from ase_deepdensity.plot.surfaces import balls, bonds, default_isovalue, edges, isosurface
from ase_deepdensity.plot.view import _camera

CHROMIUM = next(filter(None, map(shutil.which, ['chromium', 'chromium-browser', 'google-chrome'])), None)
SKEWED = np.array([[4.0, 0.0, 0.0], [1.1, 3.8, 0.0], [0.9, -0.8, 4.2]])


def gaussian(cell_cv, size_c, relpos_c, exponent=2.0):
    scaled_Rc = np.stack(np.meshgrid(*(np.arange(n) / n for n in size_c), indexing='ij'), axis=-1) - relpos_c
    return np.exp(-exponent * (((scaled_Rc - np.round(scaled_Rc)) @ cell_cv) ** 2).sum(axis=-1))


@pytest.mark.parametrize('size_c', [(40, 38, 42), (120, 80, 90)], ids=['as it is', 'made coarser'])
def test_surface_of_a_gaussian_is_a_sphere_in_a_skewed_cell(size_c):
    centre_v = np.array([0.5, 0.45, 0.55]) @ SKEWED
    mesh = isosurface(gaussian(SKEWED, size_c, [0.5, 0.45, 0.55]), SKEWED, np.exp(-2.0), 'red')
    assert np.linalg.norm(mesh.corner_kv - centre_v, axis=1) == pytest.approx(np.ones(len(mesh.corner_kv)), abs=0.02)
    corner_tkv = mesh.corner_kv[mesh.triangle_tk]
    area = (
        np.linalg.norm(np.cross(corner_tkv[:, 1] - corner_tkv[:, 0], corner_tkv[:, 2] - corner_tkv[:, 0]), axis=1).sum()
        / 2
    )
    assert area == pytest.approx(4 * np.pi, rel=0.03)


def test_surface_reaches_the_faces_of_a_periodic_cell():
    """A sphere around the origin: an eighth of it in each corner, to the last point of the cell."""
    mesh = isosurface(gaussian(SKEWED, (40, 38, 42), [0, 0, 0]), SKEWED, np.exp(-2.0), 'red')
    relpos_kc = mesh.corner_kv @ np.linalg.inv(SKEWED)
    assert relpos_kc.min() == pytest.approx(0) and relpos_kc.max() == pytest.approx(1)
    from_corner_kv = (relpos_kc - np.round(relpos_kc)) @ SKEWED
    assert np.linalg.norm(from_corner_kv, axis=1) == pytest.approx(np.ones(len(relpos_kc)), abs=0.02)


def test_default_surface_is_around_its_share_of_the_electrons():
    n_R = gaussian(SKEWED, (40, 38, 42), [0.5, 0.5, 0.5])
    isovalue = default_isovalue(n_R, signed=False)
    assert n_R[n_R >= isovalue].sum() / n_R.sum() == pytest.approx(0.8, abs=0.01)
    with pytest.raises(ValueError, match='zero everywhere'):
        default_isovalue(np.zeros((3, 3, 3)), signed=True)


def test_balls_bonds_and_edges():
    water = Atoms('OH2', [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], cell=[5, 5, 5], pbc=True)
    assert len(bonds(water)) == 1, 'one of two goes across the boundary'
    water.center()
    assert len(bonds(water)) == 2
    mesh = balls(water)
    assert mesh.triangle_tk.max() == len(mesh.corner_kv) - 1 == len(mesh.colour_kx) - 1
    assert len(edges(SKEWED)) == 12


def test_view_says_what_it_shows(molecule_state):
    view = molecule_state.view(0.1)
    assert repr(view).startswith('View of OH2: surface of 0.1 electrons/Å³, ')
    bundle = view._repr_mimebundle_()
    assert bundle['image/png'].startswith(b'\x89PNG') and len(bundle['image/png']) > 5000
    kinds = [trace['type'] for trace in bundle['application/vnd.plotly.v1+json']['data']]
    assert kinds.count('mesh3d') == 2
    both = molecule_state.view(difference_to='atoms').plotly()
    assert [trace.color for trace in both.data if trace.type == 'mesh3d' and trace.color] == [
        'rgb(178,34,34)',
        'rgb(65,105,225)',
    ]


@pytest.mark.parametrize(
    ('isovalue', 'message'),
    [(1e6, 'there is no surface of 1e\\+06: the density is from'), (-1, 'isovalue must be'), ('x', 'must be')],
)
def test_surfaces_that_are_not_there(molecule_state, isovalue, message):
    with pytest.raises(ValueError, match=message):
        molecule_state.view(isovalue)


def test_other_files_are_refused(molecule_state, tmp_path):
    with pytest.raises(ValueError, match='use a name that ends in'):
        molecule_state.view().save(tmp_path / 'x.txt')
    molecule_state.view().save(tmp_path / 'x.png')
    assert (tmp_path / 'x.png').stat().st_size > 10_000


@pytest.mark.parametrize('cell_cv', [np.eye(3), SKEWED, np.diag([2.9, 2.5, 15.0]), np.diag([30.0, 5.0, 5.0])])
def test_the_whole_cell_is_in_view(cell_cv):
    """Plotly opens its camera by 45 degrees from bottom to top, and scales what it shows to a box of volume one."""
    camera = _camera(cell_cv)
    eye_v, centre_v = (np.array(list(camera[name].values())) for name in ('eye', 'center'))
    corner_kv = edges(cell_cv).reshape(-1, 3)
    middle_v, size_v = (corner_kv.min(axis=0) + corner_kv.max(axis=0)) / 2, np.ptp(corner_kv, axis=0)
    corner_kv = (corner_kv - middle_v) / np.cbrt(size_v.prod())
    ahead_v = (centre_v - eye_v) / np.linalg.norm(centre_v - eye_v)
    right_v = np.cross(ahead_v, [0, 0, 1])
    up_v = np.cross(right_v / np.linalg.norm(right_v), ahead_v)
    depth_k = (corner_kv - eye_v) @ ahead_v
    assert depth_k.min() > 0
    assert np.abs((corner_kv - eye_v) @ up_v / depth_k).max() < np.tan(np.pi / 8)


@pytest.mark.skipif(CHROMIUM is None, reason='no chromium')
def test_a_browser_without_a_network_draws_the_surface(molecule_state, tmp_path):
    from matplotlib.image import imread

    molecule_state.view(0.05).save(tmp_path / 'x.html')
    page = (tmp_path / 'x.html').read_text()
    assert '<script src=' not in page, 'nothing is loaded from elsewhere'
    options = (
        '--headless --no-sandbox --use-angle=swiftshader --enable-unsafe-swiftshader --window-size=600,500 '
        '--hide-scrollbars --virtual-time-budget=6000'
    )
    picture = tmp_path / 'x.png'
    command = [CHROMIUM, *options.split(), f'--user-data-dir={tmp_path / "profile"}', f'--screenshot={picture}']
    subprocess.run([*command, str(tmp_path / 'x.html')], check=True, capture_output=True, timeout=120)
    red_ij, green_ij, blue_ij = np.moveaxis(imread(picture)[:, :, :3], -1, 0)
    is_surface_ij = (green_ij > red_ij + 0.1) & (green_ij > blue_ij + 0.03)
    assert is_surface_ij.mean() > 0.02, 'the green surface covers a part of the page'
    rows, columns = np.nonzero(is_surface_ij)
    assert abs(columns.mean() - 300) < 60 and abs(rows.mean() - 255) < 80, 'in its middle'
