import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ase_deepdensity import model as model_module
from ase_deepdensity.level import PHYSICAL
from ase_deepdensity.model import FORMAT, OLDEST, SHIPPED, VERSION, DensityModel, ModelError, model_path, shipped_models
from ase_deepdensity.predict import Predictor
from tests.tolerances import EXACT


@pytest.fixture
def path(tiny_file, tmp_path):
    """A copy of the tiny model's file, to be spoilt."""
    path = tmp_path / 'tiny.safetensors'
    path.write_bytes(tiny_file.read_bytes())
    return path


def contents(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, framework='pt') as file:
        return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata())  # noqa: SIM118


def test_round_trip(tiny_model, path, water):
    copy = DensityModel.load(path)
    assert copy.architecture == tiny_model.architecture
    assert copy.level.to_dict() == tiny_model.level.to_dict()
    assert copy.card == tiny_model.card
    assert copy.symbols == ['H', 'O'] and copy.name == 'tiny'
    assert copy.number_of_parameters() == tiny_model.number_of_parameters() > 1000
    mine, theirs = (Predictor(model).predict(water) for model in (tiny_model, copy))
    assert theirs.nt_sR == pytest.approx(mine.nt_sR, rel=EXACT)
    for D_sii, copy_sii in zip(mine.D_asii, theirs.D_asii, strict=True):
        assert copy_sii == pytest.approx(D_sii, abs=EXACT)


def test_saving_leaves_one_file(tiny_model, tmp_path):
    tiny_model.save(tmp_path / 'a.safetensors')
    tiny_model.save(tmp_path / 'a.safetensors')
    assert [file.name for file in tmp_path.iterdir()] == ['a.safetensors']


def test_a_failed_save_leaves_the_old_file(tiny_model, path, monkeypatch):
    old = path.read_bytes()

    def no_space(tensors, file, metadata):
        Path(file).write_bytes(b'half')
        raise OSError('No space left on device')

    monkeypatch.setattr(model_module, 'save_file', no_space)
    with pytest.raises(OSError, match='No space'):
        tiny_model.save(path)
    assert path.read_bytes() == old
    assert len(list(path.parent.iterdir())) == 1


def test_truncated_file(path):
    whole = path.read_bytes()
    for size in 0, 5, 100, len(whole) // 2, len(whole) - 1:
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r'tiny.safetensors: not a model file, or a truncated one'):
            DensityModel.load(path)


def test_foreign_files(tmp_path):
    text = tmp_path / 'notes.txt'
    text.write_text('This is no model. ' * 20)
    with pytest.raises(ModelError, match=r'notes.txt: not a model file'):
        DensityModel.load(text)
    foreign = tmp_path / 'foreign.safetensors'
    save_file({'weight': torch.ones(3)}, foreign)
    with pytest.raises(ModelError, match=r'foreign.safetensors: a safetensors file, but not an ase-deepdensity model'):
        DensityModel.load(foreign)


class Trap:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize('write', [torch.save, lambda object, path: path.write_bytes(pickle.dumps(object))])
def test_a_strangers_file_runs_no_code(tmp_path, write):
    trap, trace = tmp_path / 'trap.safetensors', tmp_path / 'trace'
    write(Trap(trace), trap)
    with pytest.raises(ModelError, match='not a model file'):
        DensityModel.load(trap)
    assert not trace.exists()


def test_version_that_cannot_be_upgraded(path):
    tensors, metadata = contents(path)
    save_file(tensors, path, metadata=metadata | {'version': str(OLDEST - 1)})
    with pytest.raises(ModelError, match=f'version {OLDEST - 1}, whose basis no longer exists'):
        DensityModel.load(path)


def test_later_version(path):
    tensors, metadata = contents(path)
    save_file(tensors, path, metadata=metadata | {'version': str(VERSION + 1)})
    with pytest.raises(ModelError, match=rf'version {VERSION + 1}; this program reads up to {VERSION}: update it'):
        DensityModel.load(path)


def without(key):
    return lambda header: header.pop(key)


@pytest.mark.parametrize(
    'spoil',
    [
        *(without(key) for key in ('architecture', 'level', 'superposition', 'card')),
        lambda header: header['architecture'].update(network='unheard-of'),
        lambda header: header['architecture']['hypers'].update(channels=9),
        lambda header: header['architecture']['hypers'].update(colour='blue'),
        lambda header: header['architecture'].update(basis=None),
        lambda header: header.update(level={'parameters': {'ecut': 3}}),
        lambda header: header['superposition'].update({'7': [0.1, 2.0]}),
        lambda header: header.update(superposition=[1, 2]),
    ],
)
def test_damaged_header(path, spoil):
    tensors, metadata = contents(path)
    header = json.loads(metadata['header'])
    spoil(header)
    save_file(tensors, path, metadata=metadata | {'header': json.dumps(header)})
    with pytest.raises(ModelError, match=r'tiny.safetensors: a damaged model file'):
        DensityModel.load(path)


@pytest.mark.parametrize('changes', [{'version': 'first'}, {'header': '{'}, {'header': '[]'}])
def test_damaged_metadata(path, changes):
    tensors, metadata = contents(path)
    save_file(tensors, path, metadata=metadata | changes)
    with pytest.raises(ModelError, match=r'tiny.safetensors: a damaged model file'):
        DensityModel.load(path)


def test_missing_tensor(path):
    tensors, metadata = contents(path)
    for key in [next(k for k in tensors if k.startswith(part)) for part in ('network', 'familiarity', 'superposition')]:
        save_file({k: v for k, v in tensors.items() if k != key}, path, metadata=metadata)
        with pytest.raises(ModelError, match=r'tiny.safetensors: a damaged model file'):
            DensityModel.load(path)


def test_unknown_name(tmp_path):
    with pytest.raises(ModelError, match=r"no model 'water-pbe-dzq': neither a file nor a shipped model"):
        DensityModel.load('water-pbe-dzq')
    with pytest.raises(ModelError, match='no model'):
        DensityModel.load(tmp_path)


@pytest.mark.parametrize('name', shipped_models())
def test_shipped_models(name):
    path = model_path(name)
    assert path.parent == SHIPPED
    assert path.stat().st_size <= 5e6
    assert contents(path)[1]['format'] == FORMAT
    model = DensityModel.load(name)
    assert model.name == name
    assert model.level.versions['datasets'].keys() == set(model.symbols)
    assert model.level.parameters.keys() <= set(PHYSICAL), 'nothing of one cell or machine, such as a number of bands'
    assert model.card, 'a shipped model tells where it comes from'
