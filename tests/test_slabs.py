"""Densities of which a part is computed: lazily, and written as they come."""

import pickle

import numpy as np
import pytest

from ase_deepdensity.checks import PredictionError
from ase_deepdensity.model import DensityModel
from ase_deepdensity.packages import MissingPackageError, require
from ase_deepdensity.predict import Predictor
from ase_deepdensity.slabs import SlabDensity
from tests.tiny import build_model
from tests.tolerances import FLOAT32


@pytest.fixture
def counted(monkeypatch):
    """Slabs that have been computed: their first planes."""
    computed, components = [], SlabDensity._components

    def counting(walk, slab):
        computed.append(int(slab.start_c[0]))
        return components(walk, slab)

    monkeypatch.setattr(SlabDensity, '_components', staticmethod(counting))
    return computed


def test_lazy_arrays(tiny_model, water, counted):
    tiny = Predictor(tiny_model)
    density = tiny.predict(water)
    lazy_sR = tiny.lazy(water, density.grid, max_points=4 * 32**2)
    assert lazy_sR.shape == density.nt_sR.shape and lazy_sR.dtype == density.nt_sR.dtype
    assert not counted, 'the grid was visited'
    scale = float(density.nt_sR.max())
    np.testing.assert_allclose(lazy_sR[0, 9].compute(), density.nt_sR[0, 9], atol=FLOAT32 * scale)
    assert counted == [8], 'more than one slab was computed for a plane'
    assert lazy_sR.sum().compute() * density.grid.dv == pytest.approx(density.integral(), rel=FLOAT32)
    assert sorted(counted[1:]) == list(range(0, 32, 4))


def test_lazy_arrays_travel(tiny_model, water):
    """To workers of dask.distributed."""
    lazy_sR = Predictor(tiny_model).lazy(water, max_points=5000)
    twin_sR = pickle.loads(pickle.dumps(lazy_sR))
    np.testing.assert_array_equal(twin_sR[0, :2].compute(), lazy_sR[0, :2].compute())


@pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')
def test_lazy_magnetisation(tiny_model, water):
    model = build_model(tiny_model.level, network='universal', magnetic=True)
    predictor = Predictor(model, extrapolate=True)
    water.set_initial_magnetic_moments(np.linspace(-1, 1, len(water)))
    density = predictor.predict(water)
    scale = float(density.nt_sR.max())
    np.testing.assert_allclose(predictor.lazy(water, density.grid).compute(), density.nt_sR, atol=FLOAT32 * scale)


@pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')
def test_lazy_density_below_zero(water):
    hydrogen = water[1:2]
    lazy_sR = Predictor(DensityModel.load('water-pbe-dzp')).lazy(hydrogen, max_points=10**4)
    with pytest.raises(PredictionError, match='of its electrons are below zero'):
        lazy_sR.sum().compute()


def test_packages_that_are_missing():
    require('json', 'large', 'files')
    with pytest.raises(MissingPackageError, match=r'lazy arrays need the package no_such.*ase_deepdensity\[large\]'):
        require('no_such.array', 'large', 'lazy arrays')
