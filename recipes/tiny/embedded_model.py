"""How good a model is on images that it has not seen, through the predictor as users have it.

    python -m recipes.tiny.embedded_model ../shared/data --objects 3 --json quality.json
    python -m recipes.tiny.embedded_model ../shared/data --model runs/r5 --seconds 240
    python -m recipes.tiny.embedded_model ../shared/data --baselines grabcut,random_walker
    python -m recipes.tiny.embedded_model ../shared/data --choose

``--model`` takes a name, a ``.safetensors`` file, or a run (its folder or its ``last.pt``: the
averaged weights are measured). The objects are those of ``benchmarks/objects.csv``, the first of
each source and part, so that numbers can be compared over time; ``--choose`` makes a new list.
Networks of thin lines (vessels, cracks, neurites) and whole classes are measured apart from compact
objects.
"""

from __future__ import annotations

import argparse
import time

from recipes.tiny.fixed_objects import Part, choose_objects, write_objects
from recipes.tiny.quality import grouped, over_sources, report
from recipes.tiny.scoring import OBJECTS, add_options, objects_of, plan_of, score, show, write
from recipes.tiny.sets import load_images

LISTED: dict[Part, int] = {"compact": 20, "class": 10, "network": 20}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--choose", action="store_true", help="write objects.csv anew, and stop")
    options = parser.parse_args()
    if options.choose:
        images = load_images(options.data, part="validation")
        write_objects(OBJECTS, choose_objects(images, LISTED))
        return
    started = time.monotonic()
    plan = plan_of(options, options.model)
    rows, missed = score(plan, objects_of(options), options.processes, show)
    seconds = time.monotonic() - started
    text = report(rows)
    text += f"\n\n{options.model}: {len(rows)} objects in {seconds:.0f} s"
    text += f"; the time did not suffice for {len(missed)} more." if missed else "."
    means = {" / ".join(key): over_sources(group) for key, group in grouped(rows).items()}
    content = {"model": options.model, "seconds": seconds, "missed": missed}
    write(options, text, content | {"means": means, "rows": rows})


if __name__ == "__main__":
    main()
