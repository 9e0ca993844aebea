"""Which environments a shipped model was trained on, from its card: makes the geometries again and refits.

    python docs/benchmarks/familiarity_fit.py MODEL FOLDER [HOLD-OUTS ...]

The first block of commands of the card (``ase_deepdensity/models/MODEL.md``) is run up to the geometries that it
calculates: ``deepdensity sample`` as it stands there, into FOLDER, files that are there already excepted; and in place
of ``deepdensity generate`` the geometries are collected.  Then the model's file gets the new familiarity; all else in
it stays as it is, to the last bit.

With files of hold-outs of the training's kind the unit of the distances is such that the largest of theirs comes to
nine tenths of what is warned about.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import torch
from ase import Atoms

from ase_deepdensity.checks import MAX_UNFAMILIAR
from ase_deepdensity.cli.main import main as deepdensity
from ase_deepdensity.frames import read_frames
from ase_deepdensity.model import DensityModel, model_path
from ase_deepdensity.network.environment_distance import EnvironmentDistance
from ase_deepdensity.network.system import System
from ase_deepdensity.system import system_of

ROOT = Path(__file__).parents[2]


def main(name: str, folder: str, *hold_outs: str) -> None:
    model = DensityModel.load(name)
    frames = training_geometries(model_path(name).with_suffix('.md'), Path(folder))
    print(f'{name}: {len(frames)} geometries, {sum(map(len, frames))} atoms')
    model.familiarity = EnvironmentDistance.of(model.network, systems_of(model, frames))
    if hold_outs:
        largest = largest_distance(model, read_frames([Path(folder) / file for file in hold_outs]))
        print(f'hold-outs: up to {largest:.2f}')
        model.familiarity = model.familiarity.in_units_of(largest / (0.9 * MAX_UNFAMILIAR))
    model.save(model_path(name))


def systems_of(model: DensityModel, frames: list[Atoms]) -> list[System]:
    return [system_of(atoms, model.network, model.level).to(dtype=torch.float32) for atoms in frames]


@torch.no_grad()
def largest_distance(model: DensityModel, frames: list[Atoms]) -> float:
    """Of the environments in some frames from those that the model knows."""
    return max(
        float(model.familiarity(model.network(system).invariants_ac, [system.atoms_of(Z) for Z in model.species]).max())
        for system in systems_of(model, frames)
    )


def training_geometries(card: Path, folder: Path) -> list[Atoms]:
    """What the commands of a card calculate references for."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = []
    for program, *arguments in commands(card, folder):
        os.chdir(folder)
        if program == 'python':
            subprocess.run([sys.executable, str(ROOT / arguments[0]), *arguments[1:]], check=True)
        elif arguments[0] == 'sample' and not Path(arguments[2]).exists():
            if deepdensity(arguments):
                raise SystemExit(1)
        elif arguments[0] == 'generate':
            patterns = arguments[1 : arguments.index('--level') - 1]
            sources += [name for pattern in patterns for name in sorted(glob(pattern)) or [pattern]]
    return read_frames(sources)


def commands(card: Path, folder: Path) -> Iterator[list[str]]:
    """The commands of the first block of a card as a shell expands them, patterns of file names excepted."""
    block = re.search(r'```bash\n(.*?)```', card.read_text(), re.DOTALL)
    assert block is not None, f'{card}: no commands'
    show = 'show() { printf "%q " "$@"; echo; }\n'
    show += ''.join(f'{program}() {{ show {program} "$@"; }}\n' for program in ('deepdensity', 'python'))
    with subprocess.Popen(['bash', '-fc', show + block[1]], cwd=folder, stdout=subprocess.PIPE, text=True) as shell:
        for line in shell.stdout or ():
            yield shlex.split(line)


if __name__ == '__main__':
    main(*sys.argv[1:])
