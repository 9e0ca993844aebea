"""A model's network at work: small systems several at once, large ones in blocks."""

from __future__ import annotations

import copy

import numpy as np
import torch
from ase import Atoms

from ase_deepdensity.atoms_coefficients import AtomsCoefficients
from ase_deepdensity.checks import PredictionError, as_prediction_error
from ase_deepdensity.devices import default_device
from ase_deepdensity.geometry import total_charge
from ase_deepdensity.level import Level
from ase_deepdensity.memory import check_memory
from ase_deepdensity.model import DensityModel
from ase_deepdensity.network.blocks import Joined
from ase_deepdensity.network.contract import Coefficients, Output
from ase_deepdensity.network.mapped import has_room
from ase_deepdensity.network.readout import Features, features_of_system
from ase_deepdensity.network.system import System
from ase_deepdensity.system import system_of, whole_of

MOST_IN_BLOCK = 8192
"""Of one system that the network is asked about at once, if it takes blocks."""
BYTES_PER_ATOM = 50_000
"""What the network holds while it works on an atom of a block, about."""
MOST_HELD = 2**27
"""Bytes of coefficients; those of more atoms are kept in a temporary file."""


FAR = 30.0
"""Distance from the training data from which on a network is believed less and less."""


def share_of(unfamiliar_a: np.ndarray) -> np.ndarray:
    """(natoms,) how much of what the network says of each atom counts, at a distance from the training data.

    All of it up to :data:`FAR`, then 1 / (1 + (d/FAR − 1)⁴): half at twice that, smoothly down to nothing.
    """
    beyond_a = np.maximum(unfamiliar_a.astype(float) / FAR - 1, 0)
    share_a: np.ndarray = 1 / (1 + beyond_a**4)
    return share_a


class NetworkRunner:
    """Runs a copy of a model's network.

    Parameters
    ----------
    level
        Whose k-points a network is told that asks for them.
    device, dtype
        Of the work.
    keeps_features
        What the last layer has read is kept with what it says.  Default: where there are error bars, which are made of
        that.
    """

    def __init__(
        self,
        model: DensityModel,
        level: Level,
        device: torch.device,
        dtype: torch.dtype,
        *,
        keeps_features: bool = False,
    ):
        self.model, self.level, self.device, self.dtype = model, level, device, dtype
        self.keeps_features = keeps_features
        with default_device('cpu'):
            self.network = copy.deepcopy(model.network).to(device=device, dtype=dtype).eval()

    def update(self, model: DensityModel) -> None:
        """Go on with other weights of the same network."""
        self.network.load_state_dict(model.network.state_dict())
        self.model = model

    def __call__(self, batch: list[Atoms], extrapolate: bool) -> list[tuple[AtomsCoefficients, np.ndarray]]:
        """What the network says of several at once, and of which atoms it is finite."""
        with as_prediction_error(), default_device('cpu'), torch.no_grad():
            if len(batch) == 1 and len(batch[0]) > MOST_IN_BLOCK and self.network.steps is not None:
                return [self._in_blocks(batch[0], np.arange(len(batch[0])), extrapolate)]
            system = self.system(batch)
            output, features = self._run(system)
            output, unfamiliar_a, finite_a = self.judged(output, system)
            results = []
            for t, (atoms, part) in enumerate(zip(batch, output.split(system), strict=True)):
                rows = system.slices[t]
                seen = None if features is None else (system.of_system(t), features_of_system(features, system, t))
                of_atoms = AtomsCoefficients(
                    atoms.copy(), part, unfamiliar_a[rows], self._charge(atoms), extrapolate, seen
                )
                results.append((of_atoms, finite_a[rows]))
            return results

    def _run(self, system: System) -> tuple[Output, Features | None]:
        """What the network says; with what its last layer has read if that is to be kept."""
        if not self.keeps_features and self.model.error_bars is None:
            return self.network(system), None
        return self.network.with_features(system)

    def of_some(self, atoms: Atoms, some_a: np.ndarray, extrapolate: bool) -> tuple[AtomsCoefficients, np.ndarray]:
        """The same of ``atoms[some_a]`` (ascending), of a network that takes blocks; of all atoms of another one."""
        with as_prediction_error(), default_device('cpu'), torch.no_grad():
            if self.network.steps is None:
                return self([atoms], extrapolate)[0]
            return self._in_blocks(atoms, some_a, extrapolate)

    def _in_blocks(self, atoms: Atoms, some_a: np.ndarray, extrapolate: bool) -> tuple[AtomsCoefficients, np.ndarray]:
        """The same of some atoms of a large system, of which the network is shown a part at a time."""
        self._check_memory(len(some_a))
        charge = self._charge(atoms)
        whole = whole_of(atoms, self.network, self.level, charge=charge, electrons=self._valence(atoms) - charge)
        is_magnetic = self.network.sees_magnetic_moments and whole.magmom_a.any()
        joined = Joined(atoms.numbers[some_a], 2 if is_magnetic else 1, MOST_HELD)
        unfamiliar_a, finite_a = np.zeros(len(some_a), np.float32), np.zeros(len(some_a), bool)
        for core_a in whole.cores(MOST_IN_BLOCK, some_a):
            block = whole.block(core_a, self.network.cutoff, self.network.steps or 0).to(self.device, self.dtype)
            place_a = np.searchsorted(some_a, core_a)
            output, unfamiliar_a[place_a], finite_a[place_a] = self.judged(self.network(block), block.asked_about())
            assert isinstance(output, Coefficients)
            joined.add(place_a, output)
        coefficients = AtomsCoefficients(atoms[some_a], joined.output(), unfamiliar_a, charge, extrapolate)
        return coefficients, finite_a

    def _check_memory(self, natoms: int) -> None:
        """Refuse more atoms than the memory can hold what is said of."""
        check_memory(self.memory(natoms), f'what {self.model.name} says of {natoms} atoms')

    def memory(self, natoms: int) -> float:
        """Bytes that are needed for what is said of so many atoms, and while it is found, about."""
        basis, sizes = self.model.architecture.basis, [len(t.D_ii) for t in self.model.atom_types.values()]
        nbytes = natoms * self.dtype.itemsize * self.network.members * (1 + self.network.sees_magnetic_moments)
        of_coefficients, of_matrices = nbytes * basis.number * (basis.lmax + 1) ** 2, nbytes * max(sizes) ** 2
        if self.network.steps is None or natoms <= MOST_IN_BLOCK:
            return of_coefficients + of_matrices + natoms * BYTES_PER_ATOM
        is_held = of_coefficients <= MOST_HELD or self.device.type != 'cpu' or not has_room(of_coefficients)
        return (of_coefficients if is_held else 0.0) + of_matrices + MOST_IN_BLOCK * BYTES_PER_ATOM

    def distances(self, output: Output, system: System) -> torch.Tensor:
        """(natoms,) from the training data, on the CPU."""
        rows_z = [system.atoms_of(Z).cpu() for Z in self.model.species]
        return self.model.familiarity(output.invariants_ac.cpu(), rows_z)

    def judged(self, output: Output, system: System) -> tuple[Output, np.ndarray, np.ndarray]:
        """What the network says, so far as it is to be trusted; distances from the training data; where all is finite.

        Where there is a fallback (:meth:`has_fallback`), it takes the place of what is said of atoms that are far
        from the training data, see :func:`share_of`, or is not finite.  For derivatives the share is a constant.
        Distances and finiteness are (natoms,).
        """
        with torch.no_grad():
            unfamiliar_a = self.distances(output, system).numpy()
            finite_a = output.finite_a(system).cpu().numpy() & np.isfinite(unfamiliar_a)
        if self.has_fallback(output):
            unfamiliar_a[~finite_a] = np.inf
            share_a = share_of(unfamiliar_a)
            if (share_a < 1).any():
                assert isinstance(output, Coefficients)
                output = output.mixed(
                    self.network.usual(system), torch.from_numpy(share_a).to(output.invariants_ac), system
                )
                finite_a = output.finite_a(system).cpu().numpy()
        return output, unfamiliar_a, finite_a

    def has_fallback(self, output: Output) -> bool:
        """Does what is usual for elements take the place of what the network says of atoms that it does not know?

        No magnetisation is usual, so that spin-polarised systems are left as they are.
        """
        return self.network.knows_the_usual and output.components == 1

    def _charge(self, atoms: Atoms) -> float:
        """|e|, that of the training data unless the network is told."""
        return total_charge(atoms) if self.network.sees_charge else self.model.charge

    def _valence(self, atoms: Atoms) -> float:
        """Valence electrons of the neutral atoms."""
        return sum(atom_type.nvalence for atom_type in self.model.types_of(atoms))

    def system(self, frames: list[Atoms], position_av: torch.Tensor | None = None) -> System:
        """What the network sees of several; ``position_av`` instead of their positions, see :func:`.system_of`."""
        charges = [self._charge(atoms) for atoms in frames]
        electrons = [self._valence(atoms) - charge for atoms, charge in zip(frames, charges, strict=True)]
        system = system_of(
            frames, self.network, self.level, charges=charges, electrons=electrons, position_av=position_av
        )
        return system.to(self.device, self.dtype)


def checked_device(device: str | torch.device | None) -> torch.device:
    """A device that this machine has: 'cpu' (None), 'cuda', or 'cuda:1' for the second GPU.

    Raises
    ------
    PredictionError
        Another device, or a GPU that is not there.
    """
    try:
        checked = torch.device('cpu' if device is None else device)
    except (RuntimeError, TypeError):
        raise PredictionError(f'no device {device!r}; use cpu or cuda') from None
    if checked.type not in ('cpu', 'cuda'):
        raise PredictionError(f'no device {str(device)!r} for these models; use cpu or cuda')
    if checked.type == 'cuda' and not torch.cuda.is_available():
        raise PredictionError(f'no device {str(device)!r}: this machine has no CUDA device; use cpu')
    if checked.type == 'cuda' and (checked.index or 0) >= torch.cuda.device_count():
        raise PredictionError(
            f'no device {str(device)!r}: this machine has {torch.cuda.device_count()}, counted from 0'
        )
    return checked
