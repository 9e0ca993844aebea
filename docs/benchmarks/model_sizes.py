"""Where the bytes of model files are: each part as it is, and as a wheel packs it (deflate).

    python docs/benchmarks/model_sizes.py [FILE.safetensors ...]

Prints a table for the shipped models, or for the files.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections import Counter
from pathlib import Path

import safetensors.numpy

from ase_deepdensity.model_files import model_path, shipped_models

PARTS = {
    'trained weights': r'network\..*',
    'tables of ñ(r)': r'atom_types\.\d+\.nt_.*',
    'else of the atom types': r'atom_types\..*',
    'distances': r'familiarity\..*',
    'error bars': r'error_bars\..*',
}
CONSTANTS = r'.*\.T\w*_\w*ii'
"""Coupling coefficients, which stand in the files with the weights."""


def part_of(name: str) -> str:
    if re.fullmatch(CONSTANTS, name):
        return 'coupling coefficients'
    return next(part for part, pattern in PARTS.items() if re.fullmatch(pattern, name))


def table(files: list[Path]) -> str:
    """Rows of Markdown, MB."""
    plain, packed = Counter[str](), Counter[str]()
    for path in files:
        data = path.read_bytes()
        text = data[: 8 + int.from_bytes(data[:8], 'little')]
        pieces = [('header', text)]
        pieces += [(part_of(name), array.tobytes()) for name, array in safetensors.numpy.load(data).items()]
        for part, piece in pieces:
            plain[part] += len(piece)
            packed[part] += len(zlib.compress(piece))
    rows = [f'| {part} | {plain[part] / 1e6:.2f} | {size / 1e6:.2f} |' for part, size in packed.most_common()]
    whole = sum(len(zlib.compress(path.read_bytes())) for path in files)
    total = f'| together | {sum(plain.values()) / 1e6:.2f} | {whole / 1e6:.2f} |'
    return '\n'.join(['| part | MB | packed, MB |', '|---|---|---|', *rows, total])


if __name__ == '__main__':
    print(table([Path(name) for name in sys.argv[1:]] or [model_path(name) for name in shipped_models()]))
