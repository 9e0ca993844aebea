"""All networks by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.devices import default_device
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.equivariant import EquivariantHypers, EquivariantNetwork
from ase_deepdensity.network.invariant import InvariantHypers, InvariantNetwork
from ase_deepdensity.network.universal import UniversalHypers, UniversalNetwork

NETWORKS: dict[str, tuple[type[DensityNetwork], type]] = {
    'equivariant': (EquivariantNetwork, EquivariantHypers),
    'invariant': (InvariantNetwork, InvariantHypers),
    'universal': (UniversalNetwork, UniversalHypers),
}
"""name: (network, its hyper-parameters)."""


def build_network(
    name: str,
    hypers: dict[str, Any],
    species: Sequence[int],
    basis: SplineBasis,
    projectors: Sequence[Sequence[int]],
    *,
    empty: bool = False,
) -> DensityNetwork:
    """An untrained network; ``empty``: one that waits for a state dict.

    Raises
    ------
    ValueError
        A network or a hyper-parameter that does not exist.
    """
    network, sizes = _parse(name, hypers)
    with default_device('cpu'):
        return network(species, sizes, basis, projectors, empty)  # type: ignore[call-arg]


def telling_shapes(
    name: str,
    hypers: dict[str, Any],
    species: Sequence[int],
    basis: SplineBasis,
    projectors: Sequence[Sequence[int]],
) -> dict[str, tuple[int, ...]]:
    """:meth:`.DensityNetwork.telling_shapes` of the network that these would build.

    Raises
    ------
    ValueError
        A network or a hyper-parameter that does not exist.
    """
    network, sizes = _parse(name, hypers)
    return network.telling_shapes(species, sizes, basis, projectors)


def _parse(name: str, hypers: dict[str, Any]) -> tuple[type[DensityNetwork], Any]:
    """The class of a network, and its hyper-parameters."""
    if name not in NETWORKS:
        raise ValueError(f'no network {name!r}; there are {", ".join(NETWORKS)}')
    network, hypers_type = NETWORKS[name]
    allowed = [field.name for field in fields(hypers_type)]
    if unknown := sorted(hypers.keys() - set(allowed)):
        raise ValueError(f'the {name} network has no {", ".join(unknown)}; it has {", ".join(allowed)}')
    return network, hypers_type(**hypers)
