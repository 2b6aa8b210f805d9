"""Leave one fold of sources out, five times: how good a recipe is on images from nowhere it knows.

    python -m recipes.tiny.leave_one_out ../shared/data run.toml --objects 5 --json folds.json

``run.toml`` is a stage's settings, from fresh weights. It is run once for
each fold of `recipes.tiny.folds`, into ``OUTPUT/fold0`` and so on, without that fold's sets
and families of generated images; then each run is measured on what it never saw, and all that goes
into one table. ``--folds 0,1`` does some of them; runs go on where they stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recipes.tiny.config import RecipeConfig
from recipes.tiny.folds import FOLDS, fold_of, write_folds
from recipes.tiny.quality import grouped, over_sources, report
from recipes.tiny.scoring import (
    GENERATED,
    add_options,
    names,
    objects_of,
    plan_of,
    score,
    show,
    write,
)
from recipes.tiny.training_runs import train


def main() -> None:
    """Train what is not trained, measure each source with the run that never saw it, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("settings", type=Path, help="TOML file of a training run")
    parser.add_argument("--folds", default=",".join(map(str, range(len(FOLDS)))))
    parser.add_argument("--train-processes", type=int, default=1, help="of a run, a thread each")
    parser.add_argument("--only-score", action="store_true", help="measure what is there")
    options = parser.parse_args()
    base = RecipeConfig.from_toml(options.settings)
    paths = write_folds(base, base.output)
    folds = [int(number) for number in names(options.folds)]
    if not options.only_score:
        for fold in folds:
            train(paths[fold], options.train_processes)
    everything = objects_of(options)
    rows, missed = [], []
    for fold in folds:
        own = [one for one in everything if fold_of(one.source) == fold]
        plan = plan_of(options, str(base.output / f"fold{fold}"))
        found, lost = score(plan, own, options.processes, show)
        seen = sorted({row["source"] for row in found if not row["left_out"]})
        if seen:
            raise ValueError(f"The run of fold {fold} was trained on {seen}: train it anew.")
        rows += [row | {"fold": fold} for row in found]
        missed += lost
    sources = {row["source"] for row in rows if not row["source"].startswith(GENERATED)}
    text = f"{report(rows)}\n\n{len(sources)} sources left out, folds {options.folds}."
    if missed:
        text += f" The time did not suffice for {len(missed)} objects."
    means = {" / ".join(key): over_sources(group) for key, group in grouped(rows).items()}
    write(options, text, {"means": means, "missed": missed, "rows": rows})


if __name__ == "__main__":
    main()
