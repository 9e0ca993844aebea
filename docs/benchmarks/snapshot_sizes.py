"""What snapshots take on disk, as they are and written anew by this version.

python docs/benchmarks/snapshot_sizes.py snapshot.h5 ...
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from ase_deepdensity.dataset import read_snapshot, write_snapshot

if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as folder:
        for path in map(Path, sys.argv[1:]):
            snapshot, target = read_snapshot(path), Path(folder) / path.name
            write_snapshot(target, snapshot)
            before, after = (file.stat().st_size / 1000 for file in (path, target))
            print(f'{path.name}, {snapshot.atoms.symbols}: {before:.1f} kB, anew {after:.1f} kB ({after / before:.3f})')
