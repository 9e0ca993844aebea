"""Arrows between the rooms of the package point down only: what a room imports stands before it in this list."""

import ast
from collections.abc import Iterator
from pathlib import Path

import ase_deepdensity

ROOT = Path(ase_deepdensity.__file__).parent
ROOMS = [
    'forks', 'packages', 'launchers', 'devices', 'memory', 'arguments', 'files', 'basis', 'grid', 'geometry',
    'spelling', 'level', 'paw', 'spin', 'state', 'snapshot', 'codes', 'model_files', 'model_packing', 'model_upgrades',
    'model_content', 'network', 'model', 'collocation', 'dataset', 'system', 'atoms_coefficients', 'checks',
    'batches', 'network_runner', 'expected_error', 'slabs', 'predict', 'ranks', 'choice', 'analysis', 'plot',
    'generate', 'frames', 'sampling', 'training', 'scf', 'calculator', 'with_dipoles', 'testing', 'cli', 'ase_plugin',
]  # fmt: skip
LAZY = {
    ('level', 'codes'), ('state', 'codes'), ('state', 'analysis'), ('state', 'plot'), ('model', 'plot'),
    ('dataset', 'plot'), ('model', 'training'),
}  # fmt: skip
"""Names where users expect them, for what stands higher: imported when they are called."""


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Rooms that a file imports when it runs, and whether only inside a function."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    nodes = list(ast.walk(tree))
    for_types = {
        inner
        for node in nodes
        if isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    in_functions = {inner for node in nodes if isinstance(node, ast.FunctionDef) for inner in ast.walk(node)}
    for node in nodes:
        if node in for_types:
            continue
        if isinstance(node, ast.ImportFrom):
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition('.')
            if package == 'ase_deepdensity' and rest and not rest.startswith('__'):
                yield rest.split('.')[0], node in in_functions


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix('.py')


def test_every_room_has_its_place():
    found = {room_of(path) for path in ROOT.rglob('*.py')} - {'__init__'}
    assert found == set(ROOMS)


def test_arrows_point_down():
    upwards = {
        f'{path.relative_to(ROOT)} → {room}'
        for path in ROOT.rglob('*.py')
        if (mine := room_of(path)) != '__init__'
        for room, lazy in imports(path)
        if ROOMS.index(room) > ROOMS.index(mine) and not (lazy and (mine, room) in LAZY)
    }
    assert not upwards
