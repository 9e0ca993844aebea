import random
from dataclasses import dataclass

from ase_deepdensity.sampling.balance import Balance, coverage, group, partner_groups


@dataclass
class Candidate:
    elements: tuple[str, ...]
    kind: str
    natoms: int = 2
    family: str = 'NaCl'


def test_any_first_part_is_balanced():
    """Forty times more oxides than halides, nine of ten with Na: kinds and elements come in turn all the same."""
    cations = 'Na', 'K', 'Rb', 'Mg', 'Ca'
    pool = {
        'oxide': [
            Candidate((cation, 'O'), 'oxide') for cation in cations for _ in range(200 if cation == 'Na' else 20)
        ],
        'halide': [Candidate((cation, 'F'), 'halide') for cation in cations for _ in range(5)],
    }
    balance = Balance(random.Random(1), {'oxide': 0.5, 'halide': 0.5}, draws=40)
    for n in range(1, 21):
        balance.count(balance.next(pool))
        assert abs(balance.counts['oxide'] - balance.counts['halide']) <= 1
        if n % 10 == 0:
            numbers = [balance.counts[cation] for cation in cations]
            assert max(numbers) - min(numbers) <= 2, numbers


def test_a_smaller_cell_comes_first():
    pool = {'oxide': [Candidate(('Na', 'O'), 'oxide', natoms=n) for n in (8, 2, 4)]}
    assert Balance(random.Random(1), {'oxide': 1.0}).next(pool).natoms == 2


def test_groups():
    assert [group(symbol) for symbol in ('Na', 'Ba', 'La', 'Hf', 'Re', 'Os', 'Ag', 'Zn', 'Pb', 'Si', 'Br', 'Xe')] == [
        'alkali', 'alkaline earth', 'early d', 'early d', 'early d', 'late d', 'late d', 'p metal', 'p metal',
        'metalloid', 'heavy halogen', 'noble gas',
    ]  # fmt: skip
    assert partner_groups('O', ['O', 'Ti', 'Sr', 'Zr']) == ['alkaline earth', 'early d']


def test_coverage_counts_structures_partners_and_kinds():
    table = coverage([(['Mg', 'O'], 'oxide'), (['Mg'], 'metal'), (['Mg', 'Ti', 'O'], 'oxide')], ['Mg', 'Xe'])
    magnesium, xenon = table.splitlines()[1:]
    assert magnesium.split()[:4] == ['Mg', '3', '2', '2'] and magnesium.endswith('oxide 2, metal 1')
    assert xenon.split() == ['Xe', '0', '0', '0']
