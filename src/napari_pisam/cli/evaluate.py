"""``napari-pisam evaluate``: how good models, baselines and saved masks are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_pisam.cli.console import progress, say
from napari_pisam.cli.files import check_output
from napari_pisam.images.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari_pisam.evaluate.folders import Sample
    from napari_pisam.evaluate.objects import Which
    from napari_pisam.evaluate.protocols import Segmenter
    from napari_pisam.evaluate.runner import Evaluation
    from napari_pisam.images.mask_files import MaskKind
    from napari_pisam.predict.predictor import Predictor

PROTOCOLS = ("worst", "ablation", "efficiency")
"""What can be asked for besides boxes and clicks."""

_PICTURES = 12
# Images are visited once: what an ablation encoded is of no use afterwards.
_CACHE_BYTES = 64 << 20


@dataclass(frozen=True)
class EvaluateRequest:
    """What is to be evaluated on what, and where the numbers go; see the command's options."""

    images: tuple[Path, ...] = ()
    masks: tuple[Path, ...] = ()
    data: Path | None = None
    models: tuple[str, ...] = ()
    predictions: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    clicks: int = 20
    with_box: bool = True
    objects: Which = "auto"
    mask_kind: MaskKind | Literal["auto"] = "auto"
    min_area: int = 30
    limit: int | None = None
    only: Path | None = None
    worst: int = 200
    json_file: Path | None = None
    html_file: Path | None = None
    device: str = "auto"
    precision: str = "auto"


def evaluate(request: EvaluateRequest) -> Evaluation:
    """Read, run, print, write.

    Raises
    ------
    ValueError
        If an input cannot be used; nothing is written then.
    ImportError
        If a baseline needs a package that is not installed.
    """
    _check(request)
    from napari_pisam.evaluate.baselines import BASELINES
    from napari_pisam.evaluate.folders import with_kinds
    from napari_pisam.evaluate.report import print_tables, tables
    from napari_pisam.evaluate.runner import Settings
    from napari_pisam.evaluate.runner import evaluate as run
    from napari_pisam.images.image_files import open_plane

    kind = None if request.mask_kind == "auto" else request.mask_kind
    samples = with_kinds(find_samples(request), kind)
    systems: dict[str, Segmenter] = {name: BASELINES[name]() for name in request.baselines}
    models = load_models(request)
    systems |= models
    ablation = _ablation(models, request) if "ablation" in request.protocols else {}
    settings = Settings(
        clicks=request.clicks,
        with_box=request.with_box,
        objects=request.objects,
        min_area=request.min_area,
        worst=request.worst if "worst" in request.protocols else 0,
        pictures=_PICTURES if request.html_file is not None else 0,
    )
    total = len(samples) * (2 if settings.worst and systems and settings.with_box else 1)
    with progress("Evaluating", total) as advance:
        result = run(
            samples,
            systems,
            settings,
            open_image=open_plane,
            ablation=ablation,
            advance=advance,
        )
    if "efficiency" in request.protocols:
        from napari_pisam.evaluate.efficiency import measure

        for name, predictor in models.items():
            result.efficiency[name] = measure(predictor.model, request.device, request.precision)
    found = tables(result)
    print_tables(found)
    for note in result.skipped:
        say(f"Left out: {note}")
    _write(request, result)
    left_out = f", {len(result.skipped)} file(s) left out" if result.skipped else ""
    say(f"{result.objects} object(s) in {result.images} image(s){left_out}.")
    return result


def _check(request: EvaluateRequest) -> None:
    """Find the mistakes that cost nothing to find.

    Raises
    ------
    ValueError
        If there is one.
    """
    from napari_pisam.evaluate.baselines import BASELINES

    for path, suffixes in ((request.json_file, (".json",)), (request.html_file, (".html", ".htm"))):
        if path is not None:
            check_output(path, suffixes, ())
    for is_wrong, sentence in _mistakes(request):
        if is_wrong:
            raise ValueError(sentence)
    for kind, names, known in (
        ("--baselines", request.baselines, tuple(BASELINES)),
        ("--protocols", request.protocols, PROTOCOLS),
    ):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(
                f"{kind} has {', '.join(map(repr, unknown))}, expected some of: {', '.join(known)}."
            )


def _mistakes(request: EvaluateRequest) -> Iterator[tuple[object, str]]:
    """List what may not be asked for together: whether it was, and what is said then."""
    is_data = request.data is not None
    systems = request.models or request.baselines
    yield not is_data and not request.masks, "There are no masks. Give --masks DIR, or --data DIR."
    yield (
        is_data and (request.masks or request.images),
        "--data holds images and masks itself. Leave out --images and --masks.",
    )
    yield (
        request.images and len(request.images) != len(request.masks),
        f"There are {len(request.images)} --images and {len(request.masks)} --masks, expected "
        "as many, in the same order.",
    )
    yield (
        not (systems or request.predictions),
        "Nothing is evaluated. Give --model, --baselines or --predictions.",
    )
    yield (
        systems and not is_data and not request.images,
        "A model needs images. Give --images DIR as well as --masks DIR.",
    )
    yield (
        request.predictions and len(request.masks) != 1,
        "--predictions goes with one --masks DIR; folders in it are sources.",
    )
    yield (
        "ablation" in request.protocols and not request.models,
        "The ablation needs a model. Give --model.",
    )
    yield (
        not request.with_box and request.clicks < 1,
        "Without a box there has to be a click. Give --clicks 1 or more.",
    )


def find_samples(request: EvaluateRequest) -> list[Sample]:
    """Find the files, matched by name.

    Raises
    ------
    ValueError
        If names do not match; all of them are listed.
    """
    from napari_pisam.evaluate.folders import match_folders, spread
    from napari_pisam.images.folders import source_name

    only = None
    if request.only is not None:
        if not request.only.is_file():
            raise ValueError(f"There is no file {request.only}. It holds one name a line.")
        lines = request.only.read_text(encoding="utf-8").splitlines()
        only = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    folders: list[tuple[Path, Path | None]] = []
    if request.data is not None:
        inside = sorted(request.data.iterdir()) if request.data.is_dir() else []
        folders = [
            (path / "masks", path / "images") for path in inside if (path / "masks").is_dir()
        ]
        if not folders:
            raise ValueError(
                f"{request.data} holds no NAME/images and NAME/masks. Check the path, or give "
                "--images and --masks."
            )
    else:
        images = request.images or (None,) * len(request.masks)
        folders = list(zip(request.masks, images, strict=True))
    predictions = named_folders(request.predictions)
    samples, problems = [], []
    for masks, pictures in folders:
        try:
            samples += match_folders(masks, pictures, predictions, only)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError(" ".join(problems))
    if not samples:
        raise ValueError(f"No mask is named in {request.only}. Write name or source/name a line.")
    labels = [source_name(masks) for masks, _ in folders]
    if len(set(labels)) < len(labels):
        say("Warning: two folders have one name; their objects are averaged together.")
    return samples if request.limit is None else spread(samples, request.limit)


def named_folders(texts: tuple[str, ...]) -> dict[str, Path]:
    """Read ``NAME=DIR`` or ``DIR``, by name.

    Raises
    ------
    ValueError
        If a name is used twice.
    """
    from napari_pisam.images.folders import source_name

    found: dict[str, Path] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        path = Path(folder if equals else text)
        name = name if equals else source_name(path)
        if name in found:
            raise ValueError(f"Two --predictions are called {name!r}. Write NAME=DIR.")
        found[name] = path
    return found


def load_models(request: EvaluateRequest) -> dict[str, Predictor]:
    """Load the models, by a short name.

    Raises
    ------
    ValueError
        If there is no such model.
    """
    from napari_pisam.cli.segment import load_predictor

    models: dict[str, Predictor] = {}
    for given in request.models:
        loaded, predictor = load_predictor(given, request.device, request.precision)
        name = Path(given).stem if loaded.source == given else given
        number = 2
        base = name
        while name in models:
            name, number = f"{base} ({number})", number + 1
        models[name] = predictor
    return models


def _ablation(models: Mapping[str, Predictor], request: EvaluateRequest) -> dict[str, Segmenter]:
    from napari_pisam.evaluate.ablation import ablations
    from napari_pisam.predict.embedding_cache import EmbeddingCache
    from napari_pisam.predict.predictor import Predictor

    return {
        f"{name}: {parts}": Predictor(
            model, request.device, request.precision, cache=EmbeddingCache(_CACHE_BYTES)
        )
        for name, predictor in models.items()
        for parts, model in ablations(predictor.model).items()
    }


def _write(request: EvaluateRequest, result: Evaluation) -> None:
    from napari_pisam import __version__
    from napari_pisam.evaluate.report import html_report, tables

    if request.json_file is not None:
        content: dict[str, Any] = {"software": "napari-pisam", "version": __version__}
        with replacing(request.json_file) as part:
            text = json.dumps(content | result.as_json(), indent=1, allow_nan=False)
            part.write_text(text + "\n", encoding="utf-8")
        say(f"-> {request.json_file}")
    if request.html_file is not None:
        notes = [
            f"napari-pisam {__version__}: {result.objects} objects in {result.images} images. "
            "Means are over sources.",
            *(f"Left out: {note}" for note in result.skipped),
        ]
        with replacing(request.html_file) as part:
            page = html_report("Evaluation of masks", tables(result), result.cases, notes)
            part.write_text(page, encoding="utf-8")
        say(f"-> {request.html_file}")
