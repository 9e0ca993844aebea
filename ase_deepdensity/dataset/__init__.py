"""A folder of snapshots: written once and atomically, read, sampled."""

from ase_deepdensity.dataset.files import Snapshot, SnapshotError, read_snapshot, write_snapshot
from ase_deepdensity.dataset.folder import Dataset, DatasetError

__all__ = ['Dataset', 'DatasetError', 'Snapshot', 'SnapshotError', 'read_snapshot', 'write_snapshot']
