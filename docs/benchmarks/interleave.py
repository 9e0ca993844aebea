"""Frames of several files in one, evenly mixed, so that the first of them are a fair sample.

python docs/benchmarks/interleave.py OUT.xyz FILE ...
"""

from __future__ import annotations

import sys

from ase.io import read, write

if __name__ == '__main__':
    out, *files = sys.argv[1:]
    placed = []
    for file in files:
        frames = read(file, ':')
        placed += [((i + 0.5) / len(frames), file, frame) for i, frame in enumerate(frames)]
    write(out, [frame for *_, frame in sorted(placed, key=lambda item: item[:2])])
