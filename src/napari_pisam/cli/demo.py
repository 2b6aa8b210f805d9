"""``napari-pisam demo``: the main job on a real picture, from boxes to corrected masks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.cli.console import answer, progress, say
from napari_pisam.cli.demo_scenes import OVERVIEW, SCENES, DemoObject, Scene, load
from napari_pisam.cli.files import check_output
from napari_pisam.images.files import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

    from napari_pisam.predict.predictor import Predictor

ALL = "all"
CLICKS = 3
# A person would not click for a single pixel at the edge.
_GOOD = 0.95


def demo(output: Path, image: str, model: str, device: str, *, headless: bool) -> None:
    """Segment scenes, write labels and pictures of them, print reports, open napari.

    The first scene's are ``labels.tif`` and ``preview.png``; those of further ones have the scene's
    name in theirs, and ``overview.png`` shows all.

    Parameters
    ----------
    output : Path
        Folder of the results, made where it does not exist.
    image : str
        A scene, or ``"all"`` for one picture each of many objects, of a large one with a fine
        outline, and of a network of thin lines.
    model, device : str
        As for the predictor.
    headless : bool
        Never open napari.

    Raises
    ------
    ValueError
        If there is no such scene or model, or the folder cannot be used.
    """
    from napari_pisam.cli.preview import draw_preview, stacked
    from napari_pisam.cli.segment import description_of, load_predictor
    from napari_pisam.images.label_files import write_label_stack
    from napari_pisam.predict.prompt_files import prompts_digest

    if image not in (ALL, *SCENES):
        raise ValueError(f"The image is {image!r}, expected one of: {', '.join((ALL, *SCENES))}.")
    scenes = [SCENES[name] for name in (OVERVIEW if image == ALL else (image,))]
    pictures = [load(scene) for scene in scenes]
    output.mkdir(parents=True, exist_ok=True)
    check_output(output / "labels.tif", (".tif",), ())
    loaded, predictor = load_predictor(model, device, "auto")
    results: list[_Result] = []
    for scene, pixels in zip(scenes, pictures, strict=True):
        objects, seconds = _segmented(predictor, scene, pixels)
        ending = f"-{scene.name}" if results else ""
        labels_file, preview_file = output / f"labels{ending}.tif", output / f"preview{ending}.png"
        masks = {number: one.masks[-1] for number, one in enumerate(objects, 1)}
        prompts = {number: one.prompts() for number, one in enumerate(objects, 1)}
        description = description_of(loaded, model, prompts_digest(prompts), len(masks))
        description |= {"image": scene.file}
        write_label_stack(labels_file, {(): masks}, masks[1].shape, description)
        preview = draw_preview(pixels, objects, scene.reference_name)
        _write(preview, preview_file)
        report(
            objects, seconds, f"{scene.name}, {predictor.model.variant.name} on {predictor.device}"
        )
        results.append(_Result(pixels, objects, labels_file, preview_file, preview))
    for one in results:
        answer(f"{one.labels_file}\n{one.preview_file}")
    if len(results) > 1:
        _write(stacked([one.preview for one in results]), output / "overview.png")
        answer(str(output / "overview.png"))
    if not headless:
        _show(results[0].pixels, results[0].objects, results[0].labels_file)


@dataclass(frozen=True)
class _Result:
    pixels: NDArray[Any]
    objects: list[DemoObject]
    labels_file: Path
    preview_file: Path
    preview: Image.Image


def _segmented(
    predictor: Predictor, scene: Scene, pixels: NDArray[Any]
) -> tuple[list[DemoObject], float]:
    """Segment and correct a scene's objects; tell how long the image took to encode, s."""
    predictor.set_image(pixels)
    started = time.perf_counter()
    predictor.encode()
    seconds = time.perf_counter() - started
    objects = [DemoObject(box, scene.reference(pixels, box)) for box in scene.boxes]
    with progress(f"Segmenting {scene.name}", len(objects)) as advance:
        for one in objects:
            correct(predictor, one)
            advance(1)
    return objects, seconds


def _write(picture: Image.Image, path: Path) -> None:
    with replacing(path) as part:
        picture.save(part, format="PNG")


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
    from napari_pisam.layers.result import can_show, show_result

    if not can_show():
        say('napari is not opened: there is no display, or pip install "napari-pisam[gui]" it.')
        return
    import tifffile

    prompts = {number: one.prompts() for number, one in enumerate(objects, 1)}
    show_result(pixels, prompts, tifffile.imread(labels_file))
