"""One pass against converged calculations: errors beside the residual that is known without them.

    OMP_NUM_THREADS=1 python docs/benchmarks/onepass.py measure OUT.json MODEL DATASET ...
    python docs/benchmarks/onepass.py table OUT.json ...
    python docs/benchmarks/onepass.py plot PICTURE.png LABEL=OUT.json ...

``measure`` does one pass at each prediction, whatever comes out, for the snapshots of data sets that
"deepdensity generate" made at the level of the model; what is in OUT.json already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from ase_deepdensity import Dataset, DensityModel, OnePassGPAW
from ase_deepdensity.analysis.compare import nmae
from ase_deepdensity.predict import Predictor
from ase_deepdensity.scf.one_pass import ATOMIC, DOUBTFUL, LOCAL, MAX_RESIDUAL
from ase_deepdensity.scf.response import Residual

RESIDUALS = 'residual', 'local residual', 'atomic residual'
CLASSES = 'accepted', 'with a warning', 'goes on'


def measure(out: Path, model: DensityModel, folders: list[Path]) -> None:
    """One row for each snapshot, by the folder and name of its file."""
    rows: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    predictor = Predictor(model)
    for file in Dataset(folders).files:
        key = f'{file.parent.name}/{file.name}'
        if key not in rows:
            rows[key] = row(Dataset([file])[0], predictor)
            print(key, rows[key], flush=True)
            out.write_text(json.dumps(rows, indent=1) + '\n')


def row(snapshot: Any, predictor: Predictor) -> dict[str, Any]:
    """Errors of one pass at the prediction for the atoms of a converged snapshot."""
    atoms = snapshot.density.atoms.copy()
    atoms.calc = calc = OnePassGPAW(predictor.model, txt=None, until={})
    energy, forces_av = float(atoms.get_potential_energy()), atoms.get_forces()
    errors_a = np.linalg.norm(forces_av - snapshot.forces, axis=1)
    return {
        'atoms': str(atoms.symbols),
        'NMAE, %': nmae(predictor.predict(atoms, snapshot.density.grid), snapshot.density),
        'residual': calc.report.residual,
        'local residual': calc.report.local_residual,
        'atomic residual': calc.report.atomic_residual,
        'ΔE, meV/atom': 1000 * (energy - float(snapshot.energy)) / len(atoms),
        'estimated, meV/atom': 1000 * Residual(calc.dft).energy_error() / len(atoms),
        'ΔF, eV/Å': float(errors_a.max()),
        'one pass': not calc.report.went_on,
    }


def worst(r: dict[str, Any]) -> float:
    """What the bounds are for."""
    return float(max(r['residual'], r['local residual'] / LOCAL, r['atomic residual'] / ATOMIC))


def judged(r: dict[str, Any]) -> str:
    """What the defaults make of it."""
    if not r['one pass'] or not worst(r) <= MAX_RESIDUAL:
        return 'goes on'
    return 'with a warning' if worst(r) > DOUBTFUL else 'accepted'


def table(rows: list[dict[str, Any]]) -> None:
    """Largest errors by what the defaults make of the predictions, and how the residuals go with the errors.

    The latter where there was one pass: other predictions are no densities.
    """
    print('| | number | NMAE, % | ΔE, meV/atom: largest, median | ΔF, eV/Å: largest, median |\n|---|---|---|---|---|')
    for name in CLASSES:
        chosen = [r for r in rows if judged(r) == name]
        if chosen:
            energies, forces = ([abs(r[key]) for r in chosen] for key in ('ΔE, meV/atom', 'ΔF, eV/Å'))
            nmaes = [r['NMAE, %'] for r in chosen]
            print(
                f'| {name} | {len(chosen)} | {min(nmaes):.2f} to {max(nmaes):.2f} '
                f'| {max(energies):.2f}, {np.median(energies):.2f} | {max(forces):.3f}, {np.median(forces):.3f} |'
            )
    rows = [r for r in rows if r['one pass']]
    for name in RESIDUALS:
        correlations = [
            f'{key.split(",")[0]} {spearmanr([r[name] for r in rows], [abs(r[key]) for r in rows])[0]:.2f}'
            for key in ('NMAE, %', 'ΔE, meV/atom', 'ΔF, eV/Å')
        ]
        print(f'rank correlation of the {name} with {", ".join(correlations)}')
    ratios = [100 * r['residual'] / r['NMAE, %'] for r in rows]
    print(f'residual / NMAE {min(ratios):.2f} to {max(ratios):.2f}')


def plot(out: Path, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Errors of energies and forces against what is judged."""
    figure = Figure(figsize=(9, 3.6), layout='constrained')
    for axes, key in zip(figure.subplots(1, 2), ('ΔE, meV/atom', 'ΔF, eV/Å'), strict=True):
        for label, some in rows.items():
            axes.loglog([worst(r) for r in some], [abs(r[key]) for r in some], '.', label=label)
        for bound, style in (DOUBTFUL, ':'), (MAX_RESIDUAL, '--'):
            axes.axvline(bound, color='0.5', linestyle=style)
        axes.set(xlabel='worst residual, electrons per electron', ylabel=f'|{key.replace(", ", "|, ")}')
        axes.grid(alpha=0.3)
    axes.legend(fontsize='small')
    figure.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['measure', 'table', 'plot'])
    parser.add_argument('out', type=Path)
    parser.add_argument('arguments', nargs='*')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    if args.what == 'measure':
        measure(args.out, DensityModel.load(args.arguments[0]), [Path(folder) for folder in args.arguments[1:]])
    elif args.what == 'table':
        table([r for path in (args.out, *args.arguments) for r in json.loads(Path(path).read_text()).values()])
    else:
        files = dict(argument.split('=', 1) for argument in args.arguments)
        plot(args.out, {label: list(json.loads(Path(path).read_text()).values()) for label, path in files.items()})


if __name__ == '__main__':
    main()
