"""A universal potential whose weights come with its package: CHGNet (B. Deng et al., Nat. Mach. Intell. 5, 1031 (2023),
doi:10.1038/s42256-023-00716-3; modified BSD licence, weights included)."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
from ase import Atoms


@cache
def _model() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        from chgnet.model.model import CHGNet

        return CHGNet.load(use_device='cpu', verbose=False)


def energies(structures: list[Atoms]) -> np.ndarray:
    """Energies (n,) of crystals, eV per atom."""
    from pymatgen.io.ase import AseAtomsAdaptor

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        crystals = [AseAtomsAdaptor.get_structure(atoms) for atoms in structures]
        results = _model().predict_structure(crystals, task='e', batch_size=len(crystals))
    if len(crystals) == 1:
        results = [results]
    return np.array([float(result['e']) for result in results])


def calculator() -> Any:
    """The potential as an ASE calculator, for dynamics."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        from chgnet.model.dynamics import CHGNetCalculator

        return CHGNetCalculator(model=_model(), use_device='cpu', on_isolated_atoms='ignore')
