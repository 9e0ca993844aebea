"""What is kept in a file on the disk instead of in memory."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from ase_deepdensity import network_runner
from ase_deepdensity.network import blocks
from ase_deepdensity.network.mapped import MappedFile
from ase_deepdensity.predict import Predictor
from ase_deepdensity.slabs import SlabDensity
from tests.tiny import water_box

PAGE = 4096


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path('/proc/self/statm').read_text().split()[1]) * PAGE


def test_what_is_released_takes_no_memory_and_stays():
    shapes = (3, 5), (2**24,)
    file = MappedFile.for_tensors(shapes, torch.float32)
    small, large = (file.zeros(shape, torch.float32) for shape in shapes)
    assert not small.any() and large.shape == (2**24,)
    before = resident()
    small[:], large[:] = 1.0, torch.arange(2.0**24)
    assert resident() - before > 2**25
    file.release()
    assert resident() - before < 2**25
    assert (small == 1.0).all() and large[-1] == 2**24 - 1
    assert pickle.loads(pickle.dumps(file)) is None


def density(model, atoms) -> tuple[SlabDensity, np.ndarray]:
    predictor = Predictor(model)
    grid = predictor.grid(atoms, gpts=(40, 20, 20))
    slabs = SlabDensity(predictor, predictor.coefficients(atoms, extrapolate=True), grid, 4000)
    return slabs, np.concatenate([block.nt_sR for block in slabs], 1)


@pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')
def test_slabs_of_coefficients_in_a_file(tiny_model, monkeypatch):
    atoms = water_box((2, 1, 1))
    monkeypatch.setattr(network_runner, 'MOST_IN_BLOCK', 4)
    held, expected_sR = density(tiny_model, atoms)
    assert held.coefficients.output.file is None
    needed = held.predictor.memory(6)
    monkeypatch.setattr(network_runner, 'MOST_HELD', 100)
    mapped, found_sR = density(tiny_model, atoms)
    assert mapped.coefficients.output.file is not None
    np.testing.assert_array_equal(found_sR, expected_sR)
    assert mapped.predictor.memory(6) < needed
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(mapped))(next(mapped.grid.slabs(4000))), found_sR[:, :10])


@pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')
def test_no_room_on_the_disk(tiny_model, monkeypatch):
    """Then they are in memory, and it is known before."""

    def full(*arguments):
        raise OSError('No space left on device')

    monkeypatch.setattr(blocks.MappedFile, 'for_tensors', full)
    monkeypatch.setattr(network_runner, 'MOST_IN_BLOCK', 4)
    monkeypatch.setattr(network_runner, 'MOST_HELD', 100)
    slabs, nt_sR = density(tiny_model, water_box((2, 1, 1)))
    on_disk = slabs.predictor.memory(6)
    monkeypatch.setattr(network_runner, 'has_room', lambda nbytes: False)
    assert slabs.predictor.memory(6) > on_disk
    assert slabs.coefficients.output.file is None and np.isfinite(nt_sR).all()
