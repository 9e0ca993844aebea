"""How far a model for many elements gets on snapshots that it was not trained on, against two starts without a network.

    python docs/benchmarks/general.py MODEL DATASET... [--json FILE] [--plot FOLDER --learned FRAMES]

For each snapshot the NMAE of ñ of the prediction, of the superposition of atoms, and of superposition + mean of each
element's training atoms ("means"); the ratio of prediction to superposition, whose NMAE counts as 2 % where it is less
(noble gases); and the error of D in units of that of the elements' means.  Then medians, 90th percentiles and the worst
by kind of structure and by chemistry.

Pictures: periodic tables of the mean ratio of the snapshots with each element and of the atoms in FRAMES, which the
model learned from; the errors of all snapshots against those of the superposition.
"""

from __future__ import annotations

import argparse
import copy
import json
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ase.io import read
from general_pictures import draw_errors, draw_table
from tqdm import tqdm

from ase_deepdensity.analysis.compare import nmae
from ase_deepdensity.dataset import Dataset, Snapshot
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor

LEAST = 2.0
"""%: an NMAE of the superposition below it counts as this."""


@dataclass(frozen=True)
class Row:
    """Errors of one snapshot, % and dimensionless."""

    name: str
    kind: str
    formula: str
    symbols: list[str]
    prediction: float
    superposition: float
    means: float
    matrices: float
    """RMS error of D, in units of that of the means."""

    @property
    def ratio(self) -> float:
        return self.prediction / max(self.superposition, LEAST)

    @property
    def structure(self) -> str:
        """Kind of structure, as ``deepdensity sample`` names it."""
        return self.name.rpartition('-')[2] or 'other'

    @property
    def chemistry(self) -> str:
        return self.kind or 'other'


def of_means(model: DensityModel) -> DensityModel:
    """The same model, saying of each atom what is the mean of its element."""
    mean = copy.deepcopy(model)
    for name, buffer in mean.network.named_buffers():
        if '.elements.' in name and '.scale' in name:
            buffer.zero_()
    return mean


def of_atoms(model: DensityModel) -> DensityModel:
    """The same model, adding nothing to the superposition of atoms."""
    bare = of_means(model)
    for name, buffer in bare.network.named_buffers():
        if name.endswith('.mean_k'):
            buffer.zero_()
    return bare


def rows(model: DensityModel, dataset: Dataset) -> Iterable[Row]:
    """The errors of each snapshot whose elements the model knows."""
    predictors = [Predictor(m, extrapolate=True) for m in (model, of_atoms(model), of_means(model))]
    for snapshot in tqdm(dataset, total=len(dataset), unit='snapshot'):
        if set(snapshot.atoms.numbers.tolist()) <= set(model.species):
            yield _row(predictors, snapshot)


def _row(predictors: Sequence[Predictor], snapshot: Snapshot) -> Row:
    reference, atoms = snapshot.density, snapshot.atoms
    with warnings.catch_warnings(action='ignore'):
        predicted, bare, mean = (p.predict(atoms, reference.grid) for p in predictors)
    square, spread = (
        sum(
            float(np.square(D_sii - ref_sii).sum())
            for D_sii, ref_sii in zip(density.D_asii, reference.D_asii, strict=True)
        )
        for density in (predicted, mean)
    )
    return Row(
        name=str(snapshot.info.get('name', '')),
        kind=str(snapshot.info.get('kind', '')),
        formula=atoms.get_chemical_formula(),
        symbols=sorted(set(atoms.symbols)),
        prediction=nmae(predicted, reference),
        superposition=nmae(bare, reference),
        means=nmae(mean, reference),
        matrices=float(np.sqrt(square / spread)) if spread > 0 else float('nan'),
    )


def table(all_rows: Sequence[Row], group_of: Callable[[Row], str]) -> str:
    """Medians, 90th percentiles and worst ratios of each group, and of all."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in all_rows:
        groups[group_of(row)].append(row)
    heads = 'number', 'NMAE, %', 'atoms, %', 'ratio', '90 %', 'worst', 'D', 'behind'
    lines = [' ' * 16 + ''.join(f'{head:>9}' for head in heads)]
    for name, group in [*sorted(groups.items()), ('all', list(all_rows))]:
        ratio_t = np.array([row.ratio for row in group])
        behind = np.mean([row.prediction > row.means for row in group])
        lines.append(
            f'{name:16}{len(group):9}{np.median([row.prediction for row in group]):9.2f}'
            f'{np.median([row.superposition for row in group]):9.2f}{np.median(ratio_t):9.3f}'
            f'{np.quantile(ratio_t, 0.9):9.3f}{ratio_t.max():9.3f}'
            f'{np.nanmedian([row.matrices for row in group]):9.3f}{100 * behind:8.0f}%'
        )
    return '\n'.join(lines)


def draw_pictures(all_rows: Sequence[Row], folder: Path, learned: Path | None) -> None:
    """``general-elements.png``, ``general-errors.png`` and, of the frames in ``learned``, ``general-learned.png``."""
    ratios: dict[str, list[float]] = defaultdict(list)
    errors: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in all_rows:
        errors[row.structure].append((row.superposition, row.prediction))
        for symbol in row.symbols:
            ratios[symbol].append(row.ratio)
    means = {symbol: float(np.mean(values)) for symbol, values in ratios.items()}
    texts = {symbol: f'{means[symbol]:.2f} ({len(values)})' for symbol, values in ratios.items()}
    label = 'error of ñ / that of the superposition (snapshots)'
    draw_table(means, texts, (0, 0.6), label, folder / 'general-elements.png')
    draw_errors(errors, LEAST, folder / 'general-errors.png')
    if learned:
        natoms = number_of_atoms(learned)
        texts = {symbol: str(number) for symbol, number in natoms.items()}
        draw_table(natoms, texts, (0, 300), 'atoms learned from', folder / 'general-learned.png')


def number_of_atoms(path: Path) -> Mapping[str, int]:
    """Atoms of each element in all frames of a file."""
    return Counter(symbol for atoms in read(path, ':') for symbol in atoms.symbols)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model')
    parser.add_argument('dataset', nargs='+')
    parser.add_argument('--json', type=Path)
    parser.add_argument('--plot', type=Path)
    parser.add_argument('--learned', type=Path)
    args = parser.parse_args()
    if args.learned and not args.plot:
        parser.error('--learned is for a picture: say where to with --plot FOLDER')
    all_rows = sorted(rows(DensityModel.load(args.model), Dataset(args.dataset)), key=lambda row: row.ratio)
    for row in all_rows:
        print(
            f'{row.name:40}{row.kind:16}{row.prediction:8.2f}{row.superposition:8.2f}{row.means:8.2f}'
            f'{row.ratio:8.3f}{row.matrices:8.3f}'
        )
    print(table(all_rows, lambda row: row.structure))
    print(table(all_rows, lambda row: row.chemistry))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in all_rows], indent=1))
    if args.plot:
        args.plot.mkdir(parents=True, exist_ok=True)
        draw_pictures(all_rows, args.plot, args.learned)


if __name__ == '__main__':
    main()
