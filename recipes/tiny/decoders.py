"""SAM's decoder, HQ-SAM's branch and Pi-SAM on one footing: same backbone, samples and budget.

    python -m recipes.tiny.decoders ../shared/data run.toml --objects 5 --json decoders.json

``run.toml`` is a training run's settings (`RecipeConfig`). It is
run three times, into ``OUTPUT/sam``, ``hqsam`` and ``pisam``, unless that was done before, with the
same seed and so on the same samples; then each is measured through the predictor. ``steps`` makes
the budgets equal in samples, ``minutes`` in time. ``initial`` gives all three the same image
encoder, prompt encoder and transformer to start from, and nothing else.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.tiny.config import RecipeConfig
from recipes.tiny.quality import grouped, markdown_table, over_sources
from recipes.tiny.scoring import add_options, objects_of, plan_of, score, show, write
from recipes.tiny.training_runs import train, write_settings

if TYPE_CHECKING:
    from recipes.tiny.quality import Row

DECODERS = {"sam": "SAM's decoder", "hqsam": "HQ-SAM's branch", "pisam": "Pi-SAM"}
_SHOWN = ("iou_0", "boundary_iou_0", "iou_1", "iou_3", "iou_5", "boundary_iou_5", "noc_90")


def settings_of(base: RecipeConfig, decoder: str) -> RecipeConfig:
    """Return the settings of one of the three runs.

    Raises
    ------
    ValueError
        If the settings do not suit a comparison.
    """
    values = base.model_dump(exclude_none=True)
    return RecipeConfig.model_validate(
        values | {"decoder": decoder, "output": base.output / decoder}
    )


def table(rows: dict[str, list[Row]]) -> str:
    """Return IoU and boundary IoU of the three, by group of sources; means over sources."""
    lines = []
    groups = {decoder: grouped(found) for decoder, found in rows.items()}
    for key in dict.fromkeys(key for found in groups.values() for key in found):
        for decoder, found in groups.items():
            means = over_sources(found.get(key, []))
            values = (f"{means[name]:.3f}" if name in means else "" for name in _SHOWN)
            count = f"{means.get('objects', 0):.0f}"
            lines.append([*key, DECODERS[decoder], count, *values])
    return markdown_table(["trained on?", "part", "decoder", "objects", *_SHOWN], lines)


def main() -> None:
    """Train what is not trained, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("settings", type=Path, help="TOML file of a training run")
    parser.add_argument("--train-processes", type=int, default=1, help="of a run, a thread each")
    parser.add_argument("--only-score", action="store_true", help="measure what is there")
    options = parser.parse_args()
    base = RecipeConfig.from_toml(options.settings)
    runs = {decoder: settings_of(base, decoder) for decoder in DECODERS}
    rows: dict[str, list[Row]] = {}
    content: dict[str, Any] = {}
    for decoder, config in runs.items():
        if not options.only_score:
            path = write_settings(config, base.output / f"{decoder}.toml")
            train(path, options.train_processes)
    for decoder, config in runs.items():
        plan = plan_of(options, str(config.output))
        rows[decoder], missed = score(plan, objects_of(options), options.processes, show)
        content[decoder] = {"missed": missed, "rows": rows[decoder]}
    write(options, table(rows), content)


if __name__ == "__main__":
    main()
