"""``napari-pisam demo``: the main job on a real picture, from boxes to corrected masks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.cli.console import answer, progress, say
from napari_pisam.cli.demo_scenes import SCENES, DemoObject, load
from napari_pisam.cli.files import check_output
from napari_pisam.images.files import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_pisam.predict.predictor import Predictor

CLICKS = 3
# A person would not click for a single pixel at the edge.
_GOOD = 0.95


def demo(output: Path, image: str, model: str, device: str, *, headless: bool) -> None:
    """Segment a scene, write ``labels.tif`` and ``preview.png``, print a report, open napari.

    Parameters
    ----------
    output : Path
        Folder of the results, made where it does not exist.
    image : str
        The scene.
    model, device : str
        As for the predictor.
    headless : bool
        Never open napari.

    Raises
    ------
    ValueError
        If there is no such scene or model, or the folder cannot be used.
    """
    from napari_pisam.cli.segment import load_predictor

    if image not in SCENES:
        raise ValueError(f"The image is {image!r}, expected one of: {', '.join(SCENES)}.")
    scene = SCENES[image]
    pixels = load(scene)
    output.mkdir(parents=True, exist_ok=True)
    labels_file, preview_file = output / "labels.tif", output / "preview.png"
    check_output(labels_file, (".tif",), ())
    loaded, predictor = load_predictor(model, device, "auto")
    predictor.set_image(pixels)
    started = time.perf_counter()
    predictor.encode()
    encode_seconds = time.perf_counter() - started
    objects = [DemoObject(box, scene.reference(pixels, box)) for box in scene.boxes]
    with progress("Segmenting", len(objects)) as advance:
        for one in objects:
            correct(predictor, one)
            advance(1)

    from napari_pisam.cli.preview import draw_preview
    from napari_pisam.cli.segment import description_of
    from napari_pisam.images.label_files import write_labels
    from napari_pisam.prompt_files import prompts_digest

    prompts = {number: one.prompts() for number, one in enumerate(objects, 1)}
    masks = {number: one.masks[-1] for number, one in enumerate(objects, 1)}
    description = description_of(loaded, model, prompts_digest(prompts), len(masks))
    description |= {"image": scene.file}
    write_labels(labels_file, masks, masks[1].shape, description)
    with replacing(preview_file) as part:
        draw_preview(pixels, objects, scene.reference_name).save(part, format="PNG")
    name = predictor.model.variant.name
    report(objects, encode_seconds, f"{image}, {name} on {predictor.device}")
    answer(f"{labels_file}\n{preview_file}")
    if not headless:
        _show(pixels, objects, labels_file)


def correct(predictor: Predictor, one: DemoObject) -> None:
    """Predict from the box, then click where the mask is most wrong, as a person would.

    Each click goes to the pixel furthest inside of the largest error: FG where something is
    missing, BG where there is too much.
    """
    from napari_pisam.measure.click_rule import evaluation_click

    clicked = np.zeros(one.truth.shape, dtype=np.bool_)
    for count in range(CLICKS + 1):
        if count:
            click = evaluation_click(one.masks[-1].to_array(), one.truth, clicked)
            if click is None or one.iou(-1) >= _GOOD:
                return
            clicked[click[:2]] = True
            one.clicks.append((float(click[0]), float(click[1]), click[2]))
        prompts = one.prompts()
        started = time.perf_counter()
        mask = predictor.predict(prompts.box, prompts.points, prompts.labels)
        one.seconds.append(time.perf_counter() - started)
        one.masks.append(mask.without_logits())


def report(objects: list[DemoObject], encode_seconds: float, title: str) -> None:
    """Print what came out, one line per object, and the means."""
    answer(f"{title}: image encoded in {encode_seconds:.2f} s")
    answer("object  score  area px  box s  s/click  clicks        IoU")
    for number, one in enumerate(objects, 1):
        clicks = " ".join("FG" if click[2] else "BG" for click in one.clicks) or "none"
        per_click = sum(one.seconds[1:]) / len(one.clicks) if one.clicks else None
        answer(
            f"{number:>6}  {one.masks[0].score:5.2f}  {one.masks[-1].area:7d}  "
            f"{one.seconds[0]:5.2f}  {'' if per_click is None else f'{per_click:.2f}':>7}  "
            f"{clicks:<12}  {one.iou(0):.2f} -> {one.iou(-1):.2f}"
        )
    before, after = mean_iou(objects, 0), mean_iou(objects, -1)
    answer(f"  mean{'':44}{before:.2f} -> {after:.2f}")


def mean_iou(objects: list[DemoObject], step: int) -> float:
    """Mean over objects; ``step`` 0 is after the box, -1 after the last click."""
    return sum(one.iou(step) for one in objects) / len(objects)


def _show(pixels: NDArray[Any], objects: list[DemoObject], labels_file: Path) -> None:
    from napari_pisam.layers import can_show, show_result

    if not can_show():
        say('napari is not opened: there is no display, or pip install "napari-pisam[gui]" it.')
        return
    import tifffile

    clicks = [click for one in objects for click in one.clicks]
    show_result(pixels, [one.box for one in objects], clicks, tifffile.imread(labels_file))
