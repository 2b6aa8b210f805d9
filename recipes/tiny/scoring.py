"""Measures models on the fixed objects, in processes of one thread each; used by other scripts."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pisam.images.files import replacing
from recipes.tiny.facts import read_facts
from recipes.tiny.fixed_objects import FixedObject, read_objects

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence

    from napari_pisam.model.pisam import PiSam
    from recipes.tiny.quality import Row

OBJECTS = Path(__file__).resolve().parents[2] / "benchmarks" / "objects.csv"
GENERATED = "synthetic:"


@dataclass(frozen=True)
class Plan:
    """What is measured, and how; goes to every process as it is.

    Attributes
    ----------
    model : str
        Name, file, or folder of a run.
    data : str
        Folder with ``sets/``.
    clicks : int
        At most.
    kinds : bool
        Clicks of one kind too.
    baselines : tuple of str
    seconds : float
        Stop after.
    """

    model: str
    data: str
    clicks: int = 20
    kinds: bool = True
    baselines: tuple[str, ...] = ()
    seconds: float = 3600.0


@dataclass(frozen=True)
class Job:
    """Objects of one image."""

    source: str
    image: str
    objects: tuple[FixedObject, ...]


# ---------------------------------------------------------------------------- what is measured


def chosen_objects(
    data: Path, count: int, sources: Sequence[str] = (), parts: Sequence[str] = ()
) -> list[FixedObject]:
    """Return the first objects of each source and part of the fixed list.

    Raises
    ------
    ValueError
        If a set of the list is not below the data, or nothing is left.
    """
    found = [
        one
        for one in read_objects(OBJECTS)
        if one.rank < count
        and (not sources or one.source in sources)
        and (not parts or one.part in parts)
    ]
    lacking = {one.source for one in found if not (data / "sets" / one.source).is_dir()}
    if lacking or not found:
        raise ValueError(f"{data / 'sets'}: {len(found)} objects, sets missing: {sorted(lacking)}")
    return found


def generated_objects(kinds: Iterable[str], count: int) -> list[FixedObject]:
    """Return objects in generated images; their parts are told when they are drawn."""
    return [
        FixedObject(GENERATED + kind, str(rank), 0, "compact", 0, rank)
        for kind in kinds
        for rank in range(count)
    ]


def jobs_of(objects: Sequence[FixedObject]) -> list[Job]:
    """Gather objects by image, so that a time limit cuts all sources alike."""
    images: dict[tuple[str, str], list[FixedObject]] = {}
    for one in sorted(objects, key=lambda one: (one.rank, one.source)):
        images.setdefault((one.source, one.image), []).append(one)
    return [Job(*key, tuple(members)) for key, members in images.items()]


def load(model: str) -> tuple[str | PiSam, list[str], list[str]]:
    """Load what `Predictor` takes, with the sets and families that it was not trained on."""
    from napari_pisam.weights.checkpoint_format import read_checkpoint
    from recipes.tiny.export import model_of_run, run_of

    path = Path(model)
    run = run_of(path) if path.exists() else None
    if run is not None:
        network, config = model_of_run(run)
        return network, config.held_out, config.held_out_kinds
    header = read_checkpoint(path).header if path.suffix == ".safetensors" else None
    training = {} if header is None else header.training
    return model, training.get("held_out", []), training.get("held_out_kinds", [])


def left_out(held_out: Iterable[str], kinds: Iterable[str], data: Path) -> set[str]:
    """List the sources that a run without these sets and families never saw, with relatives."""
    facts = read_facts(data)
    closed = set(facts.validation_only) | set(held_out)
    families = {facts.family(name) for name in closed}
    relatives = {name for name in facts if facts.family(name) in families}
    return closed | relatives | {GENERATED + kind for kind in kinds}


# -------------------------------------------------------------------------------- in a process

_STATE: dict[str, Any] = {}


def _start(plan: Plan, deadline: float) -> None:
    import torch

    from napari_pisam.evaluate.baselines import BASELINES
    from napari_pisam.predict.embedding_cache import EmbeddingCache
    from napari_pisam.predict.predictor import Predictor

    torch.set_num_threads(1)
    model, held_out, kinds = load(plan.model)
    _STATE.update(
        plan=plan,
        deadline=deadline,
        system=Predictor(model, "cpu", cache=EmbeddingCache(64 << 20)),
        baselines={name: BASELINES[name]() for name in plan.baselines},
        left_out=left_out(held_out, kinds, Path(plan.data)),
    )


def _measure(job: Job) -> tuple[list[Row], list[str]]:
    """Rows of an image's objects, and what went wrong or was not reached."""
    from recipes.tiny.fixed_objects import generated_object
    from recipes.tiny.quality import MeasureOptions, measure
    from recipes.tiny.sets import load_image

    plan, system, baselines = _STATE["plan"], _STATE["system"], _STATE["baselines"]
    if time.time() > _STATE["deadline"]:
        return [], [f"{job.source}/{job.image}: no time left"] * len(job.objects)
    item = None
    if job.source.startswith(GENERATED):
        pixels, truth, part = generated_object(job.source[len(GENERATED) :], int(job.image))
    else:
        item = load_image(Path(plan.data), job.source, job.image)
        pixels = item.pixels
    for one in (system, *baselines.values()):
        one.set_image(pixels)
    rows: list[Row] = []
    missed: list[str] = []
    for wanted in job.objects:
        if item is not None:
            wanted.index_in(item)
            truth, part = item.mask(wanted.object, slice(None), slice(None)), wanted.part
        if time.time() > _STATE["deadline"]:
            missed.append(f"{job.source}/{job.image}: no time left")
            continue
        sharp = item is None or item.class_of(wanted.object) not in item.coarse_classes
        options = MeasureOptions(plan.clicks, plan.kinds, sharp)
        known = asdict(wanted) | {
            "part": part,
            "left_out": job.source in _STATE["left_out"],
            "generated": item is None,
        }
        rows.append(known | measure(system, truth, options, baselines))
    return rows, missed


def score(
    plan: Plan,
    objects: Sequence[FixedObject],
    processes: int = 2,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Row], list[str]]:
    """Measure a model on objects.

    Returns
    -------
    rows : list of dict
        One for each object, in the order of the list.
    missed : list of str
        Objects that the time did not suffice for.

    Raises
    ------
    ValueError
        If the weights cannot be read.
    """
    jobs = jobs_of(objects)
    # A pool whose processes cannot start begins new ones for ever.
    load(plan.model)
    rows: list[Row] = []
    missed: list[str] = []
    deadline = time.time() + plan.seconds
    with multiprocessing.get_context("spawn").Pool(processes, _start, (plan, deadline)) as pool:
        for done, (found, lost) in enumerate(pool.imap_unordered(_measure, jobs), start=1):
            rows += found
            missed += lost
            advance(done, len(jobs))
    return sorted(rows, key=lambda row: (row["source"], row["part"], row["rank"])), missed


# --------------------------------------------------------------------------------- for scripts


def add_options(parser: argparse.ArgumentParser, objects: int = 3) -> None:
    """Add the options that all scripts share."""
    parser.add_argument("data", type=Path, help="folder with sets/")
    parser.add_argument("--objects", type=int, default=objects, help="of each source and part")
    parser.add_argument("--generated", type=int, default=0, help="objects of each generated family")
    parser.add_argument("--clicks", type=int, default=20)
    parser.add_argument("--sources", default="", help="these sets only, by commas")
    parser.add_argument("--parts", default="", help="compact, class, network; by commas")
    parser.add_argument("--no-kinds", action="store_true", help="without Table 7")
    parser.add_argument("--baselines", default="", help="of evaluate/baselines.py, by commas: slow")
    parser.add_argument("--processes", type=int, default=2, help="of one thread each")
    parser.add_argument("--seconds", type=float, default=3600, help="stop after")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)


def names(text: str) -> tuple[str, ...]:
    """Split at commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def objects_of(options: argparse.Namespace) -> list[FixedObject]:
    """Return the objects that the options ask for."""
    from recipes.tiny.synthetic import KINDS

    sources, parts = names(options.sources), names(options.parts)
    found = generated_objects(KINDS, options.generated)
    return found + chosen_objects(options.data, options.objects, sources, parts)


def plan_of(options: argparse.Namespace, model: str) -> Plan:
    """Return the plan that the options ask for."""
    return Plan(
        model,
        str(options.data),
        options.clicks,
        not options.no_kinds,
        names(options.baselines),
        options.seconds,
    )


def with_model(plan: Plan, model: str) -> Plan:
    """Return the same plan for another model."""
    return replace(plan, model=model)


def show(done: int, total: int) -> None:
    """Say how far it is, where somebody looks."""
    if sys.stderr.isatty():
        print(f"\r{done}/{total} images", end="\n" * (done == total), file=sys.stderr, flush=True)


def write(options: argparse.Namespace, text: str, content: dict[str, Any]) -> None:
    """Print a report, and write it where the options say."""
    print(text)
    outputs = (
        (options.markdown, text),
        (options.json, json.dumps(content, indent=1, allow_nan=False)),
    )
    for path, written in outputs:
        if path is not None:
            with replacing(path) as part:
                part.write_text(written + "\n", encoding="utf-8")
