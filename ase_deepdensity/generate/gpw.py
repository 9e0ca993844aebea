"""A data set from finished calculations: GPAW's ``.gpw`` files become snapshots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from ase import Atoms
from ase.io import read

from ase_deepdensity.arguments import reason
from ase_deepdensity.codes.gpaw.reference import snapshot_from_gpw
from ase_deepdensity.codes.gpaw.require import require_gpaw
from ase_deepdensity.dataset.files import read_level, write_snapshot
from ase_deepdensity.dataset.folder import SNAPSHOT_SUFFIX, DatasetError
from ase_deepdensity.files import remove_stale_temporaries, whole_files
from ase_deepdensity.generate.jobs import targets_in
from ase_deepdensity.level import Level


@dataclass
class Imported:
    """What :func:`import_gpw` did."""

    done: list[Path] = field(default_factory=list)
    """Snapshots that were written."""
    there: list[Path] = field(default_factory=list)
    """Snapshots that were there already, of the same geometry at the same level."""
    refused: dict[Path, str] = field(default_factory=dict)
    """Files that are no part of the data set, and why."""
    level: Level | None = None
    """Of all snapshots; None: there are none."""
    without_forces: list[Path] = field(default_factory=list)
    """Files without forces, whose snapshots have none either."""

    def lines(self) -> list[str]:
        """A report."""
        text = f'{len(self.done)} imported, {len(self.there)} there already, {len(self.refused)} refused'
        if self.without_forces:
            text += f'; {len(self.without_forces)} have no forces, which no training needs'
        return [text, *(f'refused: {why}' for why in self.refused.values())]


def import_gpw(
    files: Sequence[str | Path], out: str | Path, *, progress: bool = True, log: Callable[[str], None] = print
) -> Imported:
    """A snapshot in the folder ``out`` for each file of GPAW's, with energy, dipole moment, and forces if it has them.

    The level of theory is that of the snapshots in ``out``, or else that of the first file that can be taken; files of
    another level are refused, and so are those of calculations that have not converged.  What is there is not read
    again, so that an import that was interrupted is continued by the same call.  The folder is made for the first
    snapshot: where all files are refused, there is none.

    Raises
    ------
    DatasetError
        ``out`` is a file, or there is not one file to import.
    MissingGPAWError
        Without GPAW.
    """
    from tqdm import tqdm

    require_gpaw('reading its files')
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise DatasetError(f'{out}: is a file; snapshots need a folder')
    if not files:
        raise DatasetError('there are no .gpw files to import')
    result = Imported(level=_level_of(out))
    if out.is_dir():
        remove_stale_temporaries(out)
    for path in tqdm(_unique(files), unit='file', disable=not progress, dynamic_ncols=True):
        try:
            _import(path, out, result)
        except (ValueError, OSError) as error:
            result.refused[path] = text = _named(path, reason(error))
            log(f'refused: {text}')
    return result


def _unique(files: Iterable[str | Path]) -> list[Path]:
    return list({Path(file).resolve(): Path(file) for file in files}.values())


def _level_of(out: Path) -> Level | None:
    snapshots = whole_files(out, SNAPSHOT_SUFFIX) if out.is_dir() else []
    return read_level(snapshots[0]) if snapshots else None


def _import(path: Path, out: Path, result: Imported) -> None:
    """Write the snapshot of a file, unless it is there; the first one says which level it is."""
    atoms = _atoms_in(path)
    if result.level is not None:
        target = _target(out, atoms, result.level)
        if target.exists():
            result.there.append(target)
            return
    snapshot = snapshot_from_gpw(path)
    if result.level is None:
        result.level = snapshot.level
    elif differences := snapshot.level.differences(result.level):
        raise ValueError(f'is at another level of theory than the data set: {"; ".join(differences)}')
    out.mkdir(parents=True, exist_ok=True)
    target = _target(out, atoms, result.level)
    write_snapshot(target, snapshot)
    result.level = result.level.joined(snapshot.level)
    result.done.append(target)
    if snapshot.forces is None:
        result.without_forces.append(path)


def _target(out: Path, atoms: Atoms, level: Level) -> Path:
    """The file of a geometry, numbered after those that are there."""
    name = targets_in(out, [atoms], level)[0].name
    known = out / name
    if known.exists():
        return known
    number = len(whole_files(out, SNAPSHOT_SUFFIX))
    return out / f'{number:05d}-{name.rpartition("-")[2]}'


def _atoms_in(path: Path) -> Atoms:
    """The geometry of a file, with its charge; refuses what is no finished calculation."""
    if path.is_dir():
        raise ValueError('is a folder, not a file of GPAW')
    if not path.is_file():
        raise ValueError('no such file')
    try:
        atoms = cast(Atoms, read(path, format='gpw'))
    except ModuleNotFoundError as error:  # GPAW takes any other file for an ancient one of its own
        raise ValueError('is not a file of GPAW') from error
    except Exception as error:
        raise ValueError(f'is not a file of GPAW, or a damaged one ({reason(error)})') from error
    if 'energy' not in atoms.calc.results:
        raise ValueError('holds no energy: the calculation has not converged')
    charge = getattr(atoms.calc, 'parameters', {}).get('charge')
    if charge:
        atoms.info['charge'] = charge
    return atoms


def _named(path: Path, text: str) -> str:
    return text if text.startswith(str(path)) else f'{path}: {text}'
