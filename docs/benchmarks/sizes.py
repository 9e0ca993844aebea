"""Error against size: a picture and a table from the files that "deepdensity evaluate --json" writes.

python docs/benchmarks/sizes.py OUT.png LABEL=SCORES.json[,SCORES.json ...] ...
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure


def nmae_by_size(paths: list[str]) -> dict[int, list[float]]:
    """NMAE in % of all snapshots, by number of atoms."""
    errors: dict[int, list[float]] = defaultdict(list)
    for path in paths:
        for row in json.loads(Path(path).read_text())['snapshots']:
            errors[row['natoms']].append(row['nmae'])
    return dict(sorted(errors.items()))


if __name__ == '__main__':
    out, *items = sys.argv[1:]
    figure = Figure(figsize=(5, 3.4), layout='constrained')
    axes = figure.subplots()
    sizes: set[int] = set()
    for item in items:
        label, _, paths = item.partition('=')
        errors = nmae_by_size(paths.split(','))
        natoms, means = list(errors), [sum(values) / len(values) for values in errors.values()]
        axes.semilogx(natoms, means, 'o-', label=label)
        sizes |= errors.keys()
        cells = [f'{n} atoms: {mean:.3f} ({len(errors[n])})' for n, mean in zip(natoms, means, strict=True)]
        print(f'{label}: {", ".join(cells)}; last against first {means[-1] / means[0]:.2f}')
    axes.set(xlabel='atoms', ylabel='NMAE, %')
    axes.set_ylim(bottom=0)
    axes.set_xticks(sorted(sizes), map(str, sorted(sizes)))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize='small')
    figure.savefig(out, dpi=110)
