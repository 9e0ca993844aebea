import json
import os
import pickle
import zlib
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from safetensors import safe_open
from safetensors.torch import save_file

from ase_deepdensity.basis import RadialTable, SplineBasis
from ase_deepdensity.model import (
    FORMAT,
    OLDEST,
    SHIPPED,
    VERSION,
    Architecture,
    DensityModel,
    ModelError,
    model_path,
    shipped_models,
    with_rounded_weights,
)
from ase_deepdensity.model_content import sealed
from ase_deepdensity.model_packing import from_planes, in_planes, rounded, without_planes
from ase_deepdensity.network.registry import NETWORKS, telling_shapes
from ase_deepdensity.paw import AtomType
from ase_deepdensity.predict import Predictor
from ase_deepdensity.spelling import PHYSICAL
from tests.corruptions import corruptions
from tests.tolerances import EXACT, FLOAT32

DATA = Path(__file__).parent / 'data'


@pytest.fixture
def path(tiny_file, tmp_path):
    """A copy of the tiny model's file, to be spoilt."""
    path = tmp_path / 'tiny.safetensors'
    path.write_bytes(tiny_file.read_bytes())
    return path


def contents(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, framework='pt') as file:
        return {key: file.get_tensor(key).clone() for key in file.keys()}, dict(file.metadata())  # noqa: SIM118


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


def test_a_full_disk_leaves_the_old_file(tiny_model, path, small_files):
    old = path.read_bytes()
    for size in 0, 100, len(old) // 2, len(old) - 1:
        with small_files(size), pytest.raises(OSError, match='too large.*tiny.safetensors'):
            tiny_model.save(path)
    assert path.read_bytes() == old
    assert len(list(path.parent.iterdir())) == 1


def test_nonsense_is_not_saved(tiny_model, path):
    old = path.read_bytes()
    spoilt = DensityModel.load(path)
    spoilt.network.get_parameter('pseudo.weight').data[0, 1, 2, 3] = float('nan')
    with pytest.raises(ModelError, match=r'no such model can be written: network\..* not finite'):
        spoilt.save(path)
    with pytest.raises(ModelError, match='nowhere: no such folder'):
        tiny_model.save(path.parent / 'nowhere' / 'a.safetensors')
    assert path.read_bytes() == old


def test_overlaps_of_partial_waves_come_with_version_5():
    old, new = (DensityModel.load(DATA / f'model-{version}.safetensors').atom_types[1] for version in (4, 5))
    assert old.N0_ii is None and new.N0_ii.shape == (new.ni, new.ni) and 0.1 < new.N0_ii[0, 0] < 1


@pytest.mark.parametrize('type_', ['<f4', '<f8', '>f4'])
@pytest.mark.parametrize('shape', [(), (5,), (0, 3), (2, 3, 4)])
def test_planes(type_, shape):
    array = np.random.default_rng(1).normal(size=shape).astype(type_)
    planes = in_planes(array)
    if array.size:
        assert planes.dtype == np.uint8 and planes.shape == (array.itemsize, *shape)
    assert np.array_equal(from_planes(planes), array) and from_planes(planes).shape == shape
    for strange in np.zeros((2, 5), np.uint8), np.zeros((), np.uint8):
        with pytest.raises(ValueError, match='numbers have three, four or eight bytes'):
            from_planes(strange)


def test_matrices_of_distances_are_rounded():
    """By little, once, and not to infinity; files need three bytes for each number."""
    numbers = np.array([1 / 3, -1e-3, 1e-30, np.finfo(np.float32).max], np.float32)
    arrays = {'familiarity.whiten_sck': numbers, 'network.x': numbers}
    once = rounded(arrays)
    assert once['familiarity.whiten_sck'] == pytest.approx(numbers, rel=2**-16) and once['network.x'] is numbers
    assert once['familiarity.whiten_sck'][0] != numbers[0]
    assert np.array_equal(rounded(once)['familiarity.whiten_sck'], once['familiarity.whiten_sck'])
    planes = in_planes(once['familiarity.whiten_sck'][:3])
    assert planes.shape == (3, 3) and np.array_equal(from_planes(planes), once['familiarity.whiten_sck'][:3])


def test_weights_of_16_bits(tiny_model, tmp_path):
    """The file is smaller, holds just these weights, and the densities are the same but for their last digits."""
    rounded_model = replace(tiny_model, network=with_rounded_weights(tiny_model.network))
    sizes = []
    for model in tiny_model, rounded_model:
        model.save(path := tmp_path / 'model.safetensors')
        sizes.append(path.stat().st_size)
        for (name, saved), weight in zip(
            DensityModel.load(path).network.named_parameters(), model.network.parameters(), strict=True
        ):
            assert torch.equal(saved, weight), name
    nbytes = sum(4 * parameter.numel() for parameter in tiny_model.network.parameters())
    assert sizes[0] - sizes[1] > 0.2 * nbytes
    atoms = molecule('H2O', vacuum=3.0, pbc=True)
    given, got = (Predictor(model, extrapolate=True).predict(atoms).nt_sR for model in (tiny_model, rounded_model))
    assert got == pytest.approx(given, rel=1e-4, abs=1e-5 * given.max())
    assert not np.array_equal(given, got)


def test_a_thinned_table_is_the_whole_one(tiny_model):
    """What comes from the files of a data set is written as little as it was there."""
    made = RadialTable.fit(r_g := np.linspace(0, 3, 500), np.exp(-(r_g**2)) * (1 - r_g / 3) ** 2)
    thin = RadialTable.from_nodes(made.x_step, made.cutoff, *made.thinned())
    for table, name in (made, 'nt_xp'), (thin, 'nt_yk'):
        atom_type = replace(tiny_model.atom_types[1], nt=table)
        arrays = atom_type.to_arrays()
        assert {'nt_xp', 'nt_yk'} & arrays.keys() == {name}
        assert np.array_equal(AtomType.from_arrays(1, arrays).nt.table_xp, table.table_xp)
    with pytest.raises(ValueError, match=r'has 279 nodes, not \(278,\) values'):
        AtomType.from_arrays(1, arrays | {'nt_yk': arrays['nt_yk'][:, 1:]})
    with pytest.raises(ValueError, match=r'nt_yk needs finite values and slopes, not an array of the shape \(1, '):
        AtomType.from_arrays(1, arrays | {'nt_yk': arrays['nt_yk'][1:]})


def test_shipped_models_are_small():
    """None above 16 MB, and all of them below 20 MB in a wheel."""
    files = [model_path(name).read_bytes() for name in shipped_models()]
    assert max(map(len, files)) <= 16e6 and sum(len(zlib.compress(data)) for data in files) <= 20e6


@pytest.mark.parametrize('version', range(OLDEST, VERSION + 1))
def test_every_version(version, tmp_path):
    """Written by the program of the time.  The figures are its prediction."""
    model = DensityModel.load(DATA / f'model-{version}.safetensors')
    assert contents(DATA / f'model-{version}.safetensors')[1]['version'] == str(version)
    hydrogen = Atoms('H2', [(0, 0, 0), (0, 0, 0.75)])
    hydrogen.center(vacuum=1.5)
    model.save(tmp_path / 'new.safetensors')
    metadata = contents(tmp_path / 'new.safetensors')[1]
    assert metadata.keys() == {'format', 'version', 'header', 'checksum'} and metadata['version'] == str(VERSION)
    first, second = (Predictor(m).predict(hydrogen) for m in (model, DensityModel.load(tmp_path / 'new.safetensors')))
    assert np.linalg.norm(first.nt_sR) == pytest.approx(10.249757981644482, rel=FLOAT32)
    assert first.D_asii[0].sum() == pytest.approx(-0.009870225848389216, rel=FLOAT32)
    assert np.array_equal(first.nt_sR, second.nt_sR), 'upgraded without a change'
    assert model.atom_types[1].is_like(second.types()[0]) and model.atom_types[1].nvalence == 1


def test_old_versions_need_their_datasets_once(tmp_path, monkeypatch):
    """Those of GPAW with the same checksum, or none at all."""
    old = tmp_path / 'old.safetensors'
    tensors, metadata = contents(DATA / 'model-2.safetensors')
    header = json.loads(metadata['header'])
    header['level']['versions']['datasets']['H'] = 'of another day'
    save_file(tensors, old, metadata=metadata | {'header': json.dumps(header)})
    with pytest.raises(ModelError, match='old.safetensors: .* of H that are installed are not those.*another day'):
        DensityModel.load(old)
    monkeypatch.setattr('ase_deepdensity.codes.gpaw.require.find_spec', lambda name: None)
    with pytest.raises(ModelError, match=r'model-3.*datasets of H, .*\[gpaw\].*DensityModel.load\(FILE\).save\(FILE\)'):
        DensityModel.load(DATA / 'model-3.safetensors')
    assert DensityModel.load(DATA / 'model-4.safetensors').symbols == ['H']


@pytest.mark.parametrize(
    'spoil',
    [
        lambda header, tensors: tensors.pop('superposition.1'),
        lambda header, tensors: tensors.update({'superposition.8': tensors['superposition.1'].clone()}),
        lambda header, tensors: header['superposition'].clear(),
        lambda header, tensors: header['superposition'].update({'1': [1.0]}),
        lambda header, tensors: header['architecture'].update(species=[0]),
        lambda header, tensors: header['architecture'].update(species=[]),
        lambda header, tensors: header['architecture'].update(projectors=[[0, 1]]),
        lambda header, tensors: header['architecture'].pop('projectors'),
        lambda header, tensors: header.update(level={'parameters': {'mode': 'lcao', 'charge': 'much'}}),
    ],
)
def test_what_does_not_fit_in_old_files_is_refused(tmp_path, spoil):
    tensors, metadata = contents(DATA / 'model-2.safetensors')
    header = json.loads(metadata['header'])
    spoil(header, tensors)
    save_file(tensors, tmp_path / 'old.safetensors', metadata=metadata | {'header': json.dumps(header)})
    with pytest.raises(ModelError, match='old.safetensors: a damaged model file'):
        DensityModel.load(tmp_path / 'old.safetensors')


def test_atom_types_are_those_of_the_network(tiny_model):
    with pytest.raises(ValueError, match='atom types with the projectors .* do not fit a network for'):
        replace(tiny_model, atom_types={1: tiny_model.atom_types[1]})


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


def edited(path: Path, spoil) -> None:
    """Change header and tensors of a file, and give it the right checksum."""
    tensors, metadata = contents(path)
    header = json.loads(metadata['header'])
    arrays = without_planes({name: tensor.numpy() for name, tensor in tensors.items()})
    spoil(header, arrays)
    path.write_bytes(sealed(header, arrays))


def of(part, **changes):
    return lambda header, arrays: header[part].update(changes)


def hyper(**changes):
    return lambda header, arrays: header['architecture']['hypers'].update(changes)


def value(name, new):
    return lambda header, arrays: arrays.update({f'atom_types.{name}': np.array(new)})


def projectors(number, l_j):
    """Another list of projectors, with all that must fit it."""
    ni = int(sum(2 * l + 1 for l in l_j)) if all(l < 9 for l in l_j) else 1
    changes = {'Delta_iiL': np.zeros((ni, ni, 9)), 'D_ii': np.zeros((ni, ni)), 'N0_ii': np.zeros((ni, ni))}
    changes |= {name: np.zeros(len(l_j)) for name in ('n_j', 'f_j', 'eps_j')} | {'l_j': np.array(l_j, float)}
    return lambda header, arrays: arrays.update({f'atom_types.{number}.{k}': v for k, v in changes.items()})


def without(key):
    return lambda header, arrays: header.pop(key)


def tensor(name, change):
    return lambda header, arrays: arrays.update({name: change(arrays[name])})


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        *((without(key), key) for key in ('architecture', 'level', 'charge', 'card')),
        (of('architecture', network='unheard-of'), "no network 'unheard-of'"),
        (of('architecture', network=[]), 'unhashable'),
        (of('architecture', basis=None), 'not subscriptable'),
        (of('architecture', basis={'cutoff': 2.5, 'number': 10**9, 'lmax': 2}), 'at most 256, not 1000000000'),
        (of('architecture', basis={'cutoff': 1e9, 'number': 4, 'lmax': 2}), 'a positive distance up to 100 Å'),
        (of('architecture', species=[8, 1]), r'the species \[8, 1\] have atom types of \[1, 8\]'),
        (of('architecture', species=[1]), r'the species \[1\] have atom types of'),
        (of('architecture', species=[1, 300]), 'have atom types of'),
        (projectors(8, [0, 1, 0, 1, 99]), 'at most 32 projectors with angular momenta'),
        (projectors(8, [4] * 32), r'network.matrices.1.* should be'),
        (projectors(8, [0, 1, 0, 1]), r'network.matrices.1.* should be'),
        (projectors(8, [0, 1, 0, 1.5, 2]), 'quantum numbers must be whole'),
        (of('architecture', hypers=[]), r'its hyper-parameters are \[\]'),
        (hyper(channels=9), r'network.*should be'),
        (hyper(channels=10**9), 'channels must be a whole number from 1 to 1024, not 1000000000'),
        (hyper(channels=8.0), 'channels must be a whole number'),
        (hyper(layers=10**9), 'layers must be a whole number from 1 to 32'),
        (hyper(layers=30), r'network.pseudo.weight is \(2, 3, 16, 8\), which should be \(2, 3, 240, 8\)'),
        (hyper(radial=-1), 'radial must be a whole number'),
        (hyper(lmax=-1), 'lmax must be a whole number from 0 to 8'),
        (hyper(cutoff=float('nan')), 'cutoff must be a number above 0'),
        (hyper(cutoff=1e6), 'cutoff must be a number above 0 and up to 100'),
        (hyper(bound=0.0), 'bound must be a number above 0'),
        (hyper(response_widths=[-0.1]), 'response_widths must be a number above 0'),
        (hyper(response_widths=[0.1] * 1000), 'a list of at most 16 numbers'),
        (hyper(colour='blue'), 'has no colour'),
        (of('level', parameters={'ecut': 3}), 'level of theory'),
        (lambda header, arrays: header.update(level=[]), 'not a level of theory'),
        (lambda header, arrays: header.update(card='ok'), "its card is 'ok'"),
        (lambda header, arrays: header.update(charge='much'), "the charge of a model must be a number .* not 'much'"),
        (lambda header, arrays: arrays.update({'atom_types.7.nvalence': np.zeros(())}), 'an atom type has the arrays'),
        (
            lambda header, arrays: arrays.update({'atom_types.x.nvalence': np.zeros(())}),
            "'x', which is no atomic number",
        ),
        (value('1.nt_step', -1e-9), 'x_step of a radial table must be a number above 0 .*, not -1e-09'),
        (value('1.nt_step', 0.02), 'intervals of 0.02 Å² in a radial table end at .* not at its cutoff'),
        (value('8.nt_cutoff', 1e9), 'the cutoff of a radial table must be a number above 0 and up to 100'),
        (value('8.rcgauss', -1.0), 'rcgauss must be positive'),
        (value('8.nvalence', -1.0), 'nvalence must be from 0 to 1000'),
        (value('8.Delta0', [1.0]), 'Delta0 of an atom type has 1 axes'),
        (tensor('atom_types.1.nt_xp', lambda t: t[:-1]), 'not at its cutoff'),
        (tensor('atom_types.1.nt_xp', lambda t: t[:, :3]), 'four finite numbers for each interval'),
        (tensor('atom_types.1.nt_xp', lambda t: t * np.inf), 'atom_types.1.nt_xp has numbers that are not finite'),
        (tensor('atom_types.8.Delta_iiL', lambda t: t[:-1]), r'Delta_iiL must have the shape \(13, 13, 1, 4, 9 or'),
        (tensor('atom_types.8.Delta_iiL', lambda t: t[..., :5]), r'Delta_iiL must have the shape \(13, 13, 1, 4, 9 or'),
        (tensor('atom_types.8.D_ii', lambda t: t[:, :-1]), r'D_ii must have the shape \(13, 13\)'),
        (tensor('atom_types.8.f_j', lambda t: t[:-1]), 'f_j must have 5 values'),
        (tensor('atom_types.8.eps_j', lambda t: t.astype(np.float32)), 'the type float32'),
        (tensor('familiarity.limit_s', np.negative), 'familiarity.limit_s must be positive'),
        (tensor('familiarity.mean_sc', lambda t: t[:, :-1]), 'familiarity.mean_sc has the shape'),
        (tensor('familiarity.whiten_sck', lambda t: t[:, :, :0]), 'familiarity'),
        (tensor('network.messages.0.scale', lambda t: t.reshape(1)), r'network.messages.0.scale is \(1,\)'),
        (tensor('network.pseudo.weight', lambda t: t * np.nan), 'network.pseudo.weight has numbers'),
        (tensor('network.pseudo.weight', lambda t: t.transpose(0, 1, 3, 2)), r'network.pseudo.weight is \('),
        (lambda header, arrays: arrays.update(more=np.zeros(3)), 'no part of a model: more'),
        (lambda header, arrays: arrays.update({'network.more': np.zeros(3)}), 'Unexpected key.* "more"'),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_built(path, spoil, message):
    edited(path, spoil)
    with pytest.raises(ModelError, match=rf'(?s)tiny.safetensors: a damaged model file: .*{message}'):
        DensityModel.load(path)


def test_a_change_that_fits_is_found_by_the_checksum(path):
    """In weights, in the level, and in the free text of the card."""
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], 'little')
    for place in start + 3, whole.index(b'dzp'), whole.index(b'tiny'), whole.index(b'NMAE'), len(whole) - 1:
        spoilt = bytearray(whole)
        spoilt[place] ^= 1
        path.write_bytes(spoilt)
        with pytest.raises(ModelError, match='a damaged model file: it has changed since it was written'):
            DensityModel.load(path)


@pytest.mark.parametrize(
    'changes',
    [{'version': 'first'}, {'version': '2'}, {'header': '{'}, {'header': '[]'}, {'checksum': ''}, {'more': ''}],
)
def test_damaged_metadata(path, changes):
    tensors, metadata = contents(path)
    save_file(tensors, path, metadata=metadata | changes)
    with pytest.raises(ModelError, match=r'tiny.safetensors: a damaged model file'):
        DensityModel.load(path)


def test_missing_tensor(path):
    whole = path.read_bytes()
    for key in list(contents(path)[0])[::6]:
        path.write_bytes(whole)
        edited(path, lambda header, arrays, key=key: arrays.pop(key))
        with pytest.raises(ModelError, match=r'tiny.safetensors: a damaged model file'):
            DensityModel.load(path)


def test_no_ordinary_file(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'link').symlink_to('nowhere')
    (tmp_path / 'empty').touch()
    for name in 'pipe', 'link', 'empty', '.':
        with pytest.raises(ModelError):
            DensityModel.load(tmp_path / name)


def test_spoilt_files_are_refused(path):
    """A thousand of a shipped one: docs/benchmarks/corruptions.py."""
    DensityModel.load(DATA / 'model-2.safetensors').save(path)
    whole = path.read_bytes()
    for what, spoilt in corruptions.spoilt_files(whole, corruptions.MODEL, 200, seed=5):
        path.write_bytes(spoilt)
        try:
            DensityModel.load(path)
        except ModelError:
            continue
        pytest.fail(f'{what} was opened')


def test_a_default_device_does_not_matter(path):
    with torch.device('meta'):
        model = DensityModel.load(path)
    assert {parameter.device.type for parameter in model.network.parameters()} == {'cpu'}


@pytest.mark.parametrize(
    ('name', 'hypers'),
    [
        (
            'equivariant',
            {'lmax': 2, 'channels': 3, 'message_channels': 2, 'pseudo_channels': 5, 'response_widths': [0.1]},
        ),
        ('invariant', {'lmax': 1, 'embedding': 5, 'axes': 2, 'width': 7, 'radial': 3, 'matrix_channels': 6}),
    ],
)
def test_all_sizes_follow_from_the_telling_shapes(name, hypers):
    """Every size changes one of them, so that a file that has them is not far from what a network needs."""

    def shapes(**changes):
        architecture = Architecture(name, hypers | changes, (1, 8), ((0, 1), (0, 0, 1)), SplineBasis(3.0, 6, 1))
        telling = telling_shapes(name, architecture.hypers, (1, 8), architecture.basis, architecture.projectors)
        state = architecture.build(empty=True).state_dict()
        assert {key: tuple(state[key].shape) for key in telling} == telling
        return telling

    before = shapes()
    for field in fields(NETWORKS[name][1]):
        if field.type == 'int':
            value = (hypers | {}).get(field.name, field.default) + 1
            assert shapes(**{field.name: value}) != before, f'{field.name} does not tell'


def test_unknown_name(tmp_path):
    with pytest.raises(
        ModelError, match=r"no model 'water-pbe-dzq': neither a file nor a shipped model .*did you mean water-pbe-dzp"
    ):
        DensityModel.load('water-pbe-dzq')
    with pytest.raises(ModelError, match='this is a folder'):
        DensityModel.load(tmp_path)


@pytest.mark.parametrize('name', shipped_models())
def test_shipped_models(name):
    path = model_path(name)
    assert path.parent == SHIPPED
    assert path.stat().st_size <= {'general-pbe-pw400': 16e6, 'magnetic-pbe-pw400': 6e6}.get(name, 5e6)
    assert contents(path)[1]['format'] == FORMAT and int(contents(path)[1]['version']) >= 4, 'brings its atom types'
    model = DensityModel.load(name)
    assert model.name == name
    assert model.level.versions['datasets'].keys() == set(model.symbols)
    assert model.level.parameters.keys() <= set(PHYSICAL), 'nothing of one cell or machine, such as a number of bands'
    assert model.card, 'a shipped model tells where it comes from'
