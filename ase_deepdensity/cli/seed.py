"""``deepdensity seed``: GPAW from its own start and from a prediction, side by side."""

from __future__ import annotations

import argparse

from ase_deepdensity.cli.outputs import PICTURES, check_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        'geometry',
        metavar='GEOMETRY',
        help='file in any format that ASE reads; the last frame counts ("t.xyz@3": the fourth)',
    )
    add(
        'model',
        metavar='MODEL',
        nargs='?',
        help='name of a shipped model, or a model file; its level of theory is used (default: the shipped model that '
        'knows the atoms best)',
    )
    add('--mixer', metavar='β', type=float, help="share of the residual in GPAW's default mixer, for its own start")
    add(
        '--oracle',
        action='store_true',
        help='a third calculation, from the converged state: what a perfect model would give',
    )
    add('--one-pass', action='store_true', help='energy of a single pass at the prediction, without a cycle')
    add('--plot', metavar='FILE', help='picture of the convergence: PNG, PDF or SVG')
    add('--json', metavar='FILE', help='all figures')
    add('--quiet', action='store_true', help='no progress bars')
    add('--txt', metavar='STEM', help="GPAW's logs: STEM-default.txt, STEM-seeded.txt (default: none)")


def run(args: argparse.Namespace) -> int:
    from ase_deepdensity.codes.gpaw.require import require_gpaw
    from ase_deepdensity.model_files import model_path

    _check_outputs(args)
    if args.model is not None:
        model_path(args.model)
    require_gpaw('"deepdensity seed"')
    from ase_deepdensity.cli.warn import plain_warnings
    from ase_deepdensity.codes.gpaw.mpi import enable_mpi
    from ase_deepdensity.frames import read_frames
    from ase_deepdensity.launchers import mpi_rank

    enable_mpi()
    atoms = read_frames([args.geometry])[-1]
    with plain_warnings():
        runs, one_pass = _calculate(args, atoms)
    if not mpi_rank():
        _report(args, runs, one_pass)
    return 0


def _calculate(args, atoms):  # type: ignore[no-untyped-def]
    """The runs, and the report and energy of one pass."""
    from functools import partial

    from ase_deepdensity.launchers import mpi_rank
    from ase_deepdensity.scf.calculator import SeededGPAW
    from ase_deepdensity.scf.compare import default_gpaw
    from ase_deepdensity.scf.one_pass import OnePassGPAW
    from ase_deepdensity.scf.seed import ChosenSeed, ModelSeed
    from ase_deepdensity.state import PAWDensity

    seed = ChosenSeed(None) if args.model is None else ModelSeed(args.model)
    seed.check(atoms)  # before GPAW's own start takes its time
    model = seed.model
    if isinstance(seed, ChosenSeed) and not mpi_rank():
        print(f'model: {seed.choice}')
    parameters = model.level.general().keywords()
    mixer = {} if args.mixer is None else {'mixer': {'beta': args.mixer}}
    run_one = partial(_run_one, atoms=atoms, quiet=args.quiet)

    def txt(label: str) -> str | None:
        return None if args.txt is None else f'{args.txt}-{label}.txt'

    default, calc = run_one('default', lambda: default_gpaw(txt=txt('default'), **parameters | mixer))
    seeded, _ = run_one('seeded', lambda: SeededGPAW(model, txt=txt('seeded'), **parameters))
    runs = [default, seeded]
    if args.oracle:
        state = PAWDensity.from_gpaw(calc)
        runs.append(run_one('oracle', lambda: SeededGPAW(state, txt=txt('oracle'), **parameters))[0])
    if not args.one_pass:
        return runs, None
    record, calc = run_one('one pass', lambda: OnePassGPAW(model, until={}, txt=txt('one-pass'), **parameters))
    return [*runs, record], getattr(calc, 'report', None)


def _run_one(label, make, atoms, quiet):  # type: ignore[no-untyped-def]
    """One calculation, its iterations counted on a terminal."""
    from tqdm import tqdm

    from ase_deepdensity.launchers import mpi_rank
    from ase_deepdensity.scf.compare import run

    hidden = True if quiet or mpi_rank() else None  # None: shown on a terminal
    with tqdm(desc=label, unit=' iterations', leave=False, mininterval=0, miniters=1, disable=hidden) as bar:
        return run(label, make, atoms, tell=bar.update)


def _report(args, runs, one_pass):  # type: ignore[no-untyped-def]
    import json
    from dataclasses import asdict

    from ase_deepdensity.files import replacing
    from ase_deepdensity.scf.compare import plot_convergence, table

    print(table(runs))
    if runs[1].accepted is False:
        print(f'the seed was refused: {runs[1].reason}; the calculation went on from the default start')
    if one_pass is not None:
        print(f'one pass: residual {one_pass.residual:.2e} electrons per electron')
    if args.plot:
        plot_convergence(runs[: 3 if args.oracle else 2]).savefig(args.plot, dpi=150)
        print(f'wrote {args.plot}')
    if args.json:
        content: dict[str, object] = {'runs': [record.to_dict() for record in runs]}
        if one_pass is not None:
            content['one_pass'] = asdict(one_pass)
        with replacing(args.json) as file:
            file.write(json.dumps(content, indent=1) + '\n')
        print(f'wrote {args.json}')


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse what cannot be written, before any work."""
    if args.plot is not None:
        check_output('--plot', args.plot, PICTURES)
    if args.json is not None:
        check_output('--json', args.json)
    if args.txt is not None:
        check_output('--txt', f'{args.txt}-default.txt')
    if args.mixer is not None and not 0 < args.mixer <= 1:
        raise ValueError(f'--mixer must be above 0 and at most 1, not {args.mixer}')
