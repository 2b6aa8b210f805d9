"""``python -m recipes.tiny``, from the repository's root: make the weights of ``tiny``, or a part.

::

    python -m recipes.tiny                           all stages, then runs/tiny.safetensors
    python -m recipes.tiny train STAGE.toml          one stage, or go on with it
    python -m recipes.tiny folds STAGE.toml FOLDER   settings of the runs that leave a fold out
    python -m recipes.tiny export RUN FOLDER         a run's averaged weights, to be shipped

Several processes: ``python -m torch.distributed.run --standalone --nproc-per-node 2 -m recipes.tiny
train STAGE.toml``.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from recipes.tiny.config import RecipeConfig
from recipes.tiny.export import export_weights
from recipes.tiny.folds import write_folds
from recipes.tiny.imagenet import write_initial
from recipes.tiny.training import fit

STAGES = sorted(Path(__file__).with_name("stages").glob("*.toml"))


def make(folder: Path) -> Path:
    """Train stage after stage, and write the weights; what was done before is not done again."""
    configs = [RecipeConfig.from_toml(path) for path in STAGES]
    first = configs[0]
    if first.initial is not None and not first.initial.is_file():
        write_initial(first.initial, first)
    for config in configs:
        if fit(config).stopped:
            raise KeyboardInterrupt
    return export_weights(configs[-1].output, folder)


def main() -> int:
    """Read the arguments and work; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.tiny",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("all").add_argument("folder", type=Path, nargs="?", default=Path("runs"))
    commands.add_parser("train").add_argument("settings", type=Path)
    folds = commands.add_parser("folds")
    folds.add_argument("settings", type=Path)
    folds.add_argument("folder", type=Path)
    export = commands.add_parser("export")
    export.add_argument("run", type=Path)
    export.add_argument("folder", type=Path)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        if given.command == "train":
            fit(RecipeConfig.from_toml(given.settings))
        elif given.command == "folds":
            for path in write_folds(RecipeConfig.from_toml(given.settings), given.folder):
                sys.stdout.write(f"{path}\n")
        elif given.command == "export":
            sys.stdout.write(f"{export_weights(given.run, given.folder)}\n")
        else:
            sys.stdout.write(f"{make(getattr(given, 'folder', Path('runs')))}\n")
    except (ValueError, FloatingPointError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("Stopped; all is saved. The same command goes on.\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
