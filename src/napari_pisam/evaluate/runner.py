"""Runs the protocols over files: every system gets the same prompts on the same objects."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from napari_pisam.evaluate import protocols, saliency
from napari_pisam.evaluate.objects import Target, saved_object, targets
from napari_pisam.evaluate.pictures import Case, keep_worst, make_case
from napari_pisam.evaluate.scores import ClickScores, Scores, as_json
from napari_pisam.images.image_files import ImageFileError
from napari_pisam.images.mask_files import foreground, open_mask, read_mask
from napari_pisam.measure.metrics import as_mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_pisam.evaluate.efficiency import Efficiency
    from napari_pisam.evaluate.folders import Sample
    from napari_pisam.evaluate.objects import Which
    from napari_pisam.evaluate.protocols import ClickRun, Segmenter
    from napari_pisam.images.image_source import ImageSource

    OpenImage = Callable[[Path], contextlib.AbstractContextManager[ImageSource]]

WORST_CLICKS = (1, 2, 5)
"""Numbers of clicks of the paper's Table 2."""

KIND_CLICKS = 5
"""Number of clicks of each kind for the paper's Table 7, which does not say its own."""


@dataclass(frozen=True)
class Settings:
    """What is asked of every system.

    Attributes
    ----------
    clicks : int
        At most, after the box.
    with_box : bool
        Start from the box of the mask; otherwise by clicks alone.
    objects : {"auto", "largest", "each", "whole"}
    min_area : int
        Smaller objects are left out, px.
    worst : int
        On how many of the worst objects Tables 2 and 7 are made; 0: they are not.
    pictures : int
        How many of the worst objects of each system are kept as pictures.
    """

    clicks: int = 20
    with_box: bool = True
    objects: Which = "auto"
    min_area: int = 30
    worst: int = 0
    pictures: int = 0


@dataclass
class Evaluation:
    """What came out.

    Attributes
    ----------
    settings : Settings
    box : dict of str to Scores
        By system: masks from the box, and saved masks (the paper's Tables 1, 3 and 4).
    clicks : dict of str to ClickScores
        By system (NoC, NoF).
    ablation : dict of str to Scores
        By what is left out (Table 5).
    worst, kinds : dict of str to dict of str to Scores
        By system and stage (Tables 2 and 7).
    efficiency : dict of str to Efficiency
        By system (Table 6).
    rows : list of dict
        One for each object and system.
    cases : dict of str to list of Case
        By system, the worst first.
    skipped : list of str
        Which files were left out, and why.
    images, objects : int
    """

    settings: Settings
    box: dict[str, Scores] = field(default_factory=dict)
    clicks: dict[str, ClickScores] = field(default_factory=dict)
    ablation: dict[str, Scores] = field(default_factory=dict)
    worst: dict[str, dict[str, Scores]] = field(default_factory=dict)
    kinds: dict[str, dict[str, Scores]] = field(default_factory=dict)
    efficiency: dict[str, Efficiency] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    cases: dict[str, list[Case]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    images: int = 0
    objects: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return everything but the pictures, as JSON knows it."""
        return {
            "settings": asdict(self.settings),
            "images": self.images,
            "objects": self.objects,
            "skipped": self.skipped,
            "box": {name: as_json(scores) for name, scores in self.box.items()},
            "clicks": {name: as_json(scores) for name, scores in self.clicks.items()},
            "ablation": {name: as_json(scores) for name, scores in self.ablation.items()},
            "worst": _nested_json(self.worst),
            "kinds": _nested_json(self.kinds),
            "efficiency": {name: value.as_json() for name, value in self.efficiency.items()},
            "rows": self.rows,
        }


def _nested_json(stages: Mapping[str, Mapping[str, Scores]]) -> dict[str, Any]:
    return {
        name: {stage: as_json(scores) for stage, scores in inner.items()}
        for name, inner in stages.items()
    }


def stage_of(clicks: int) -> str:
    """Name the stage after some clicks."""
    return "1 click" if clicks == 1 else f"{clicks} clicks"


@dataclass(frozen=True)
class _Opened:
    sample: Sample
    mask: NDArray[Any]
    image: ImageSource | None
    saved: Mapping[str, NDArray[Any]]


def evaluate(
    samples: Sequence[Sample],
    systems: Mapping[str, Segmenter],
    settings: Settings,
    *,
    open_image: OpenImage | None = None,
    ablation: Mapping[str, Segmenter] | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Evaluate systems, and the masks that others saved.

    Parameters
    ----------
    samples : sequence of Sample
        With images where there are systems.
    systems : mapping of str to Segmenter
        By name; each gets the box, and then clicks.
    settings : Settings
    open_image : callable, optional
        Gives the `ImageSource` of a file while a ``with`` block runs.
    ablation : mapping of str to Segmenter, optional
        These get the box only.
    advance : callable
        Called with how many samples are done; each counts twice where `Settings.worst` is set.

    Raises
    ------
    ValueError
        If a name is used twice, images are missing, or no object was found.
    """
    ablation = ablation or {}
    saved = list(dict.fromkeys(name for sample in samples for name in sample.predictions))
    twice = sorted(set(saved) & set(systems))
    if twice:
        raise ValueError(f"Two systems are called {', '.join(twice)}. Give one another name.")
    if systems and (open_image is None or any(sample.image is None for sample in samples)):
        raise ValueError("Systems need images, and some masks have none. Give --images.")
    result = Evaluation(settings)
    with_saliency = saliency.is_available()
    names = [*systems, *saved] if settings.with_box else saved
    result.box = {name: Scores(with_saliency=with_saliency) for name in names}
    result.clicks = {name: ClickScores(settings.clicks) for name in systems if settings.clicks}
    result.ablation = {name: Scores() for name in ablation}
    from_box: dict[tuple[int, int], list[float]] = {}

    def work(place: int, opened: _Opened) -> None:
        found = False
        for number, target in enumerate(_targets(opened, settings)):
            found = True
            result.objects += 1
            runs = _run_systems(result, opened, target, systems)
            from_box[place, number] = [run.ious[0] for run in runs]
            for name, system in ablation.items():
                run = protocols.run_clicks(system, target.truth, 0)
                result.ablation[name].add(opened.sample.source, run.first, target.truth)
            _score_saved(result, opened, target)
        result.images += found

    everything = [*systems.values(), *ablation.values()]
    _for_each(samples, everything, open_image, result.skipped, advance, work)
    if not result.objects:
        reasons = f" {'; '.join(result.skipped)}." if result.skipped else ""
        raise ValueError(
            f"There is no object of {settings.min_area} px or more in {len(samples)} mask(s)."
            f"{reasons} Check the masks, or lower --min-area."
        )
    if settings.worst and systems and settings.with_box:
        chosen = protocols.select_worst(from_box, settings.worst)
        _correct_worst(result, samples, systems, set(chosen), open_image, advance)
    return result


def _for_each(
    samples: Sequence[Sample],
    systems: Sequence[Segmenter],
    open_image: OpenImage | None,
    skipped: list[str],
    advance: Callable[[int], None],
    work: Callable[[int, _Opened], None],
) -> None:
    """Open the files of one sample after the other, give the image to the systems, and work.

    A file that cannot be used is left out, also where that is found when a part of it is read.
    """
    for place, sample in enumerate(samples):
        with contextlib.ExitStack() as stack:
            try:
                opened = _open(sample, stack, open_image)
                for system in systems:
                    system.set_image(opened.image)
            except (ValueError, OSError, MemoryError) as error:
                _leave_out(sample, error, skipped)
            else:
                try:
                    work(place, opened)
                except ImageFileError as error:
                    _leave_out(sample, error, skipped)
        advance(1)


def _leave_out(sample: Sample, error: Exception, skipped: list[str]) -> None:
    reason = "not enough memory" if isinstance(error, MemoryError) else str(error)
    note = f"{sample.source}/{sample.name}: {reason}"
    if note not in skipped:
        skipped.append(note)


def _open(sample: Sample, stack: contextlib.ExitStack, open_image: OpenImage | None) -> _Opened:
    with open_mask(sample.mask) as opened:
        mask = opened.read()
        if sample.kind == "binary":
            mask = foreground(mask, is_lossy=opened.is_lossy)
    image = None
    if sample.image is not None and open_image is not None:
        image = stack.enter_context(open_image(sample.image))
        if image.shape != mask.shape:
            raise ValueError(
                f"The image has {image.shape} rows and columns, its mask {mask.shape}; expected "
                "the same. Save the mask in the image's size."
            )
    saved = {name: read_mask(path) for name, path in sample.predictions.items()}
    for name, values in saved.items():
        if values.shape != mask.shape:
            raise ValueError(
                f"The mask of {name} has shape {values.shape}, the true one {mask.shape}; "
                "expected the same. Save masks in the image's size."
            )
    return _Opened(sample, mask, image, saved)


def _targets(opened: _Opened, settings: Settings) -> Iterator[Target]:
    return targets(opened.mask, opened.sample.kind, settings.objects, settings.min_area)


def _run_systems(
    result: Evaluation, opened: _Opened, target: Target, systems: Mapping[str, Segmenter]
) -> list[ClickRun]:
    settings, source = result.settings, opened.sample.source
    runs = []
    for name, system in systems.items():
        run = protocols.run_clicks(
            system, target.truth, settings.clicks, with_box=settings.with_box
        )
        row = _row(name, opened, target) | {
            "ious": run.ious,
            "clicks": [[row, col, sign] for row, col, sign in run.clicks],
            "obeyed": run.obeyed,
            "seconds": run.seconds,
        }
        if settings.with_box:
            row |= result.box[name].add(source, run.first, target.truth)
        if settings.clicks:
            result.clicks[name].add(source, run)
        result.rows.append(row)
        _keep_case(result, name, opened, target, (run.first, run.last), run)
        runs.append(run)
    return runs


def _score_saved(result: Evaluation, opened: _Opened, target: Target) -> None:
    for name, values in opened.saved.items():
        mask = saved_object(values, target, opened.sample.kind)
        scores = result.box[name].add(opened.sample.source, mask, target.truth)
        result.rows.append(_row(name, opened, target) | scores)
        _keep_case(result, name, opened, target, (as_mask(mask),), None)


def _row(name: str, opened: _Opened, target: Target) -> dict[str, Any]:
    return {
        "system": name,
        "source": opened.sample.source,
        "image": opened.sample.name,
        "object": target.label,
        "area": int(target.truth.sum()),
    }


def _keep_case(
    result: Evaluation,
    name: str,
    opened: _Opened,
    target: Target,
    masks: tuple[NDArray[np.bool_], ...],
    run: ClickRun | None,
) -> None:
    if not result.settings.pictures:
        return
    title = f"{opened.sample.source}/{opened.sample.name}, object {target.label}"
    kept = result.cases.setdefault(name, [])
    keep_worst(
        kept,
        result.settings.pictures,
        lambda: make_case(
            title,
            opened.image,
            target.truth,
            masks,
            clicks=() if run is None else run.clicks,
            with_box=run is not None and result.settings.with_box,
        ),
        masks,
        target.truth,
    )


def _correct_worst(
    result: Evaluation,
    samples: Sequence[Sample],
    systems: Mapping[str, Segmenter],
    chosen: set[tuple[int, int]],
    open_image: OpenImage | None,
    advance: Callable[[int], None],
) -> None:
    """Tables 2 and 7 on the chosen (sample, object) pairs."""
    with_saliency = saliency.is_available()

    def stages(*names: str) -> dict[str, dict[str, Scores]]:
        return {
            system: {name: Scores(with_saliency=with_saliency) for name in names}
            for system in systems
        }

    result.worst = stages("box", *(stage_of(n) for n in WORST_CLICKS))
    result.kinds = stages("box", *protocols.KINDS)
    places = sorted({place for place, _ in chosen})
    advance(len(samples) - len(places))
    wanted = [samples[place] for place in places]

    def work(index: int, opened: _Opened) -> None:
        for number, target in enumerate(_targets(opened, result.settings)):
            if (places[index], number) in chosen:
                _correct_object(result, systems, opened.sample.source, target.truth)

    _for_each(wanted, list(systems.values()), open_image, result.skipped, advance, work)


def _correct_object(
    result: Evaluation, systems: Mapping[str, Segmenter], source: str, truth: NDArray[np.bool_]
) -> None:
    box = protocols.box_of(truth)
    first = {name: protocols.predict_mask(one, box, []) for name, one in systems.items()}
    for count in WORST_CLICKS:
        clicks = protocols.shared_error_clicks(list(first.values()), truth, count)
        for name, system in systems.items():
            mask = protocols.predict_mask(system, box, clicks) if clicks else first[name]
            result.worst[name][stage_of(count)].add(source, mask, truth)
    for name, system in systems.items():
        result.worst[name]["box"].add(source, first[name], truth)
        result.kinds[name]["box"].add(source, first[name], truth)
        for kind, signs in protocols.KINDS.items():
            run = protocols.run_clicks(system, truth, KIND_CLICKS, signs=signs)
            result.kinds[name][kind].add(source, run.last, truth)
