from itertools import islice

from ase_deepdensity.dataset import Dataset
from ase_deepdensity.generate.folder import generate
from ase_deepdensity.level import Level
from ase_deepdensity.sampling.geometries import chain


def test_a_snapshot_keeps_what_its_geometry_is_called(tmp_path):
    atoms = next(islice(chain('insulator', 2, seed=1), 1))
    atoms.info |= {'name': 'pair', 'kind': 'chain', 'seed': 1, 'host': 'another', 'tensor': [[1.0]]}
    generate([atoms], tmp_path / 'out', Level.load('ks1d'), progress=False)
    info = Dataset(tmp_path / 'out')[0].info
    assert (info['name'], info['kind'], info['seed']) == ('pair', 'chain', 1)
    assert 'tensor' not in info
    assert info['host'] != 'another', 'the calculation has the last word'
