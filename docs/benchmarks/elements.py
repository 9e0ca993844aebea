"""What it costs a network to know many elements: the same 24 atoms of water with 2 and with 60 species known.

    python docs/benchmarks/elements.py [NETWORK ...]

Projectors are those of GPAW's datasets in form: 5 × 5, 13 × 13 and 18 × 18.  Best of several runs, one thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from ase import Atoms
from ase.build import molecule

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.registry import build_network
from ase_deepdensity.network.system import build_system
from ase_deepdensity.testing.systems import element

FEW, P_BLOCK, D_BLOCK = (0, 0, 1), (0, 0, 1, 1, 2), (0, 0, 1, 1, 2, 2)


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    print('| network | species | parameters | forward | forward and backward |\n|---|---|---|---|---|')
    for name in names:
        for species in [1, 8], list(range(1, 61)):
            network, system = network_of(name, species), build_system(*arrays(water()), 5.0).to(dtype=torch.float32)
            number = sum(parameter.numel() for parameter in network.parameters())
            forward, both = best(partial(evaluate, network, system)), best(partial(differentiate, network, system), 3)
            print(
                f'| {name} | {len(species)} | {number / 1e6:.2f} million | {forward:.4f} s | {both:.4f} s |', flush=True
            )


def network_of(name: str, species: list[int]) -> DensityNetwork:
    torch.manual_seed(0)
    l_zj = [FEW if Z <= 4 else D_BLOCK if Z in range(21, 31) or Z > 38 else P_BLOCK for Z in species]
    network = build_network(name, {'cutoff': 5.0}, species, SplineBasis(3.0, 23, 4), l_zj)
    network.set_elements({Z: element(Z, l_j) for Z, l_j in zip(species, l_zj, strict=True)})
    return network


def water() -> Atoms:
    box = Atoms(cell=[6.2] * 3, pbc=True)
    for x in (0.0, 3.1):
        for y in (0.0, 3.1):
            for z in (0.0, 3.1):
                one = molecule('H2O')
                one.rotate(100 * x + 60 * y + 30 * z, (1, 2, 3))
                one.translate([x, y, z])
                box += one
    return box


def arrays(atoms: Atoms) -> tuple[object, ...]:
    return atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc


@torch.no_grad()
def evaluate(network: DensityNetwork, system: object) -> None:
    network(system)


def differentiate(network: DensityNetwork, system: object) -> None:
    output = network(system)
    squares = [c_esanm.square().sum() for c_esanm in output.c_lesanm]
    squares += [D_esaii.square().sum() for D_esaii in output.D_zesaii.values()]
    network.zero_grad()
    torch.stack(squares).sum().backward()


def best(function: Callable[[], None], repeats: int = 25) -> float:
    """Shortest wall time, s."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == '__main__':
    main(sys.argv[1:] or ['equivariant', 'universal'])
