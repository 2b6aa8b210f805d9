"""The command line: reads arguments, calls `napari_pisam.commands`, reports errors."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Annotated

import typer

from napari_pisam.cli.options import (
    TRACEBACK_VARIABLE,
    DeviceOption,
    FillHolesOption,
    GrowOption,
    LargestOption,
    MaskKinds,
    ModelOption,
    Objects,
    Overlap,
    PixelSizeOption,
    Precision,
    PrecisionOption,
    SmoothOption,
    SpecksOption,
    UnitOption,
    VoxelSizeOption,
    numbers,
    one_line_errors,
    pixel_of,
)
from napari_pisam.images.names import printable

__all__ = ["TRACEBACK_VARIABLE", "app", "main"]

app = typer.Typer(
    name="napari-pisam",
    help="Boxes and clicks in, masks out: Segment Anything with Precise Interaction.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
models_app = typer.Typer(
    help="List, describe, download, add, remove and verify models.", rich_markup_mode=None
)
app.add_typer(models_app, name="models")


@app.callback(invoke_without_command=True)
def common(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Boxes and clicks in, masks out: Segment Anything with Precise Interaction."""
    if version:
        from napari_pisam import __version__

        typer.echo(f"napari-pisam {__version__}")
        raise typer.Exit


@app.command()
def segment(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            help="TIFF, OME-TIFF, PNG, JPEG or OME-Zarr; folders and patterns of them.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="The labels, a TIFF file; of several images, a folder."
        ),
    ],
    boxes: Annotated[
        Path | None,
        typer.Option(
            "--boxes",
            help="CSV file that napari saved of a Shapes layer, or a folder of IMAGE.csv.",
        ),
    ] = None,
    points: Annotated[
        Path | None,
        typer.Option(
            "--points",
            help="The same of a Points layer; columns label (FG, BG) and object are used.",
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--start",
            help="Labels or outlines that are there: TIFF, PNG, COCO, GeoJSON, ROIs, YOLO, Shapes;"
            " or a folder of them.",
        ),
    ] = None,
    refine: Annotated[
        bool, typer.Option("--refine", help="Predict each object of --start anew, from its mask.")
    ] = False,
    model: ModelOption = "tiny",
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    channel_axis: Annotated[
        int | None, typer.Option("--channel-axis", help="Axis of the channels, counted from 0.")
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option("--channels", metavar="N,N", help="One to three channels, counted from 0."),
    ] = None,
    plane: Annotated[
        str | None,
        typer.Option(
            "--plane",
            metavar="T,Z",
            help="Index along each axis before row and column; by default all with prompts.",
        ),
    ] = None,
    contrast_limits: Annotated[
        str | None,
        typer.Option("--contrast-limits", metavar="LO,HI", help="Values shown black and white."),
    ] = None,
    overlap: Annotated[
        Overlap, typer.Option("--overlap", help="What a later object does to an earlier one.")
    ] = Overlap.keep,
    fill_holes: FillHolesOption = False,
    specks: SpecksOption = 0,
    largest: LargestOption = False,
    smooth: SmoothOption = 0.0,
    grow: GrowOption = 0.0,
    propagate: Annotated[
        bool,
        typer.Option(
            "--propagate", help="Carry objects through the stack, from the planes of their prompts."
        ),
    ] = False,
    along: Annotated[
        str | None,
        typer.Option(
            "--along", metavar="Z|T|T,Z", help="Through which axis, or one after the other."
        ),
    ] = None,
    slices: Annotated[
        str | None,
        typer.Option("--slices", metavar="FIRST,LAST", help="Stay within these, both included."),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(
            "--end",
            metavar="OVERLAP,AREA,SCORE",
            help="An object has ended below one of them; by default 0.3,0.35,0.2.",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="ADDRESS|local[:N]",
            help="Compute on dask workers: N processes here, or those of a scheduler elsewhere.",
        ),
    ] = None,
) -> None:
    """Turn boxes and points that napari saved into labels."""
    with one_line_errors():
        from napari_pisam.cli.propagating import propagation_of
        from napari_pisam.cli.segment import SegmentRequest, segment_all
        from napari_pisam.measure.cleaning import Cleaning

        indices = None if plane is None else numbers(plane, "--plane", int)
        shown = None if channels is None else numbers(channels, "--channels", int)
        limits = None
        if contrast_limits is not None:
            limits = numbers(contrast_limits, "--contrast-limits", float)
            if len(limits) != 2:
                raise ValueError(f"--contrast-limits is {contrast_limits!r}, expected LO,HI.")
        segment_all(
            SegmentRequest(
                image=images[0],
                output=output,
                boxes=boxes,
                points=points,
                start=start,
                refine=refine,
                model=model,
                device=device,
                precision=precision.value,
                channel_axis=channel_axis,
                channels=None if shown is None else tuple(int(channel) for channel in shown),
                plane=None if indices is None else tuple(int(index) for index in indices),
                contrast_limits=None if limits is None else (limits[0], limits[1]),
                overlap=overlap.value,
                cleaning=Cleaning(fill_holes, specks, largest, smooth, grow),
                scheduler=scheduler,
                propagation=propagation_of(
                    is_wanted=propagate, along=along, slices=slices, end=end
                ),
            ),
            images,
        )


@app.command()
def replay(
    session: Annotated[Path, typer.Argument(help="A session file, *.pisam.")],
    image: Annotated[
        list[Path],
        typer.Option(
            "--image",
            help="The image that it was made with; several where layers were seen as one picture.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The labels, a TIFF file.")],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME|PATH", help="Where its model's weights are now."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="DEVICE", help="By default the session's own."),
    ] = None,
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Make the labels of a saved session again; status 1 where objects differ from its masks."""
    with one_line_errors():
        from napari_pisam.cli.replay import ReplayRequest
        from napari_pisam.cli.replay import replay as run

        first, *others = image
        done = run(
            ReplayRequest(
                session, first, output, model, device, precision.value, others=tuple(others)
            )
        )
    if done.differences:
        raise typer.Exit(1)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Labels: TIFF, PNG, or a format that is read.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Its ending says the format, unless --to does.")
    ],
    image: Annotated[
        Path | None, typer.Option("--image", help="The picture, where a format needs its size.")
    ] = None,
    read_as: Annotated[
        str | None, typer.Option("--from", help="Format of the labels: coco, geojson, imagej, ...")
    ] = None,
    write_as: Annotated[
        str | None, typer.Option("--to", help="ome-tiff, png, coco, geojson, imagej, yolo, shapes.")
    ] = None,
    pixel_size: PixelSizeOption = None,
    unit: UnitOption = "um",
) -> None:
    """Write labels in another tool's format, or read them from one."""
    with one_line_errors():
        from napari_pisam.cli.labels import convert as run

        pixel = pixel_of(pixel_size, unit)
        run(source, output, image=image, read_as=read_as, write_as=write_as, pixel=pixel)


@app.command()
def clean(
    labels: Annotated[Path, typer.Argument(help="Labels: TIFF, PNG, or a format that is read.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The labels, a TIFF file.")],
    fill_holes: FillHolesOption = False,
    specks: SpecksOption = 0,
    largest: LargestOption = False,
    smooth: SmoothOption = 0.0,
    grow: GrowOption = 0.0,
    merge: Annotated[
        list[str] | None,
        typer.Option("--merge", metavar="A,B", help="Make objects the first one; several times."),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            "--split", metavar="A:R,C,R,C", help="Cut object A along a line; several times."
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="A,B", help="Clean these objects alone.")
    ] = None,
) -> None:
    """Tidy labels up: merge and split first, then grow, smooth, fill, and remove specks."""
    with one_line_errors():
        from napari_pisam.cli.labels import clean as run
        from napari_pisam.measure.cleaning import Cleaning

        run(
            labels,
            output,
            Cleaning(fill_holes, specks, largest, smooth, grow),
            merge=[numbers(text, "--merge", int) for text in merge or ()],
            split=split or (),
            only=None if only is None else numbers(only, "--only", int),
        )


@app.command()
def measure(
    labels: Annotated[Path, typer.Argument(help="Labels: TIFF, PNG, or a format that is read.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The table, a CSV file.")],
    image: Annotated[
        Path | None, typer.Option("--image", help="The picture, to measure intensities, too.")
    ] = None,
    pixel_size: VoxelSizeOption = None,
    unit: UnitOption = "um",
) -> None:
    """Measure size, shape and intensity of labelled objects; of a stack their volumes."""
    with one_line_errors():
        from napari_pisam.cli.labels import measure as run

        pixel = pixel_of(pixel_size, unit, has_depth=True)
        run(labels, output, image=image, pixel=pixel)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.")] = Path(
        "demo-output"
    ),
    headless: Annotated[
        bool, typer.Option("--headless", help="Do not open napari afterwards.")
    ] = False,
    model: ModelOption = "tiny",
    image: Annotated[
        str, typer.Option("--image", help="coins, cell, retina, photographer, vessels; or all.")
    ] = "all",
    device: DeviceOption = "auto",
) -> None:
    """Segment real pictures, correct them, show one in napari."""
    with one_line_errors():
        from napari_pisam.cli.demo import demo as run

        run(output, image, model, device, headless=headless)


@app.command()
def benchmark(
    models: Annotated[
        str, typer.Option("--models", metavar="NAME,NAME", help="Which models, or all.")
    ] = "tiny,sam_vit_b,pisam_vit_b",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the numbers to a file.")
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="How often each is timed.")] = 5,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    check: Annotated[
        bool, typer.Option("--check", help="Only check that the GPU's masks are the CPU's.")
    ] = False,
) -> None:
    """Time models here, beside segment_anything's own."""
    with one_line_errors():
        from napari_pisam.cli import benchmark as run

        if check:
            run.check(models, device, precision.value)
        else:
            run.benchmark(models, json_file, repeats, device, precision.value)


@app.command()
def evaluate(
    images: Annotated[
        list[Path] | None, typer.Option("--images", help="Folder of images; again for more.")
    ] = None,
    masks: Annotated[
        list[Path] | None, typer.Option("--masks", help="Folder of their masks, named alike.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of NAME/images and NAME/masks instead.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME|PATH", help="What is evaluated; again for more."),
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option("--predictions", metavar="[NAME=]DIR", help="Masks that a system saved."),
    ] = None,
    baselines: Annotated[
        str,
        typer.Option(
            "--baselines",
            help="By commas: box, otsu, grabcut, random_walker, local_* and sato_* (bright, dark).",
        ),
    ] = "",
    protocols: Annotated[
        str, typer.Option("--protocols", help="More: of worst, ablation, efficiency; by commas.")
    ] = "",
    clicks: Annotated[int, typer.Option("--clicks", min=0, help="At most, by RITM's rule.")] = 20,
    box: Annotated[
        bool, typer.Option("--box/--no-box", help="Start from the mask's box, or by clicks alone.")
    ] = True,
    objects: Annotated[
        Objects,
        typer.Option("--objects", help="One a mask, each, or all of a class together."),
    ] = Objects.auto,
    mask_kind: Annotated[
        MaskKinds, typer.Option("--mask-kind", help="What the masks' numbers are.")
    ] = MaskKinds.auto,
    min_area: Annotated[
        int, typer.Option("--min-area", min=1, help="Leave out smaller objects, px.")
    ] = 30,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Images of each source, at most.")
    ] = None,
    only: Annotated[
        Path | None, typer.Option("--only", help="File with the names to use, one a line.")
    ] = None,
    worst: Annotated[
        int, typer.Option("--worst", min=1, help="Objects of the protocol worst, at most.")
    ] = 200,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers.")] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Write a report with pictures of the worst.")
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Measure models, baselines or saved masks on images with masks."""
    with one_line_errors():
        from napari_pisam.cli.evaluate import EvaluateRequest
        from napari_pisam.cli.evaluate import evaluate as run

        run(
            EvaluateRequest(
                images=tuple(images or ()),
                masks=tuple(masks or ()),
                data=data,
                models=tuple(model or ()),
                predictions=tuple(predictions or ()),
                baselines=tuple(name.strip() for name in baselines.split(",") if name.strip()),
                protocols=tuple(name.strip() for name in protocols.split(",") if name.strip()),
                clicks=clicks,
                with_box=box,
                objects=objects.value,
                mask_kind=mask_kind.value,
                min_area=min_area,
                limit=limit,
                only=only,
                worst=worst,
                json_file=json_file,
                html_file=html_file,
                device=device,
                precision=precision.value,
            )
        )


@app.command()
def train(
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings of a run, a TOML file.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Instead: a folder of images to fine-tune on.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option("--masks", help="Folder of their masks, named alike.")
    ] = None,
    base: Annotated[
        str, typer.Option("--base", metavar="NAME|PATH", help="The model that is fine-tuned.")
    ] = "tiny",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the run.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the output folder.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.01, help="How long to train, in all.")
    ] = None,
    mask_kind: Annotated[
        MaskKinds, typer.Option("--mask-kind", help="What the masks' numbers are.")
    ] = MaskKinds.auto,
    device: DeviceOption = "auto",
) -> None:
    """Fine-tune a model on images with masks; Ctrl-C saves and stops."""
    with one_line_errors():
        from napari_pisam.cli.train import TrainRequest
        from napari_pisam.cli.train import train as run

        request = TrainRequest(
            config, images, masks, base, output, resume, minutes, mask_kind.value, device
        )
        if not run(request):
            raise typer.Exit(130)


@models_app.command("list")
def models_list(
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Time each network on one image first; kept from then on."),
    ] = False,
) -> None:
    """List the models: what each is good for, its size and licence, whether it is here."""
    with one_line_errors():
        from napari_pisam.cli.models import list_models

        list_models(measure=measure)


@models_app.command("info")
def models_info(name: Annotated[str, typer.Argument(help="A model's name.")]) -> None:
    """Say what a model is and where its weights come from."""
    with one_line_errors():
        from napari_pisam.cli.models import show_model

        show_model(name)


@models_app.command("download")
def models_download(name: Annotated[str, typer.Argument(help="A model's name.")]) -> None:
    """Download a model's weights into the cache and check them."""
    with one_line_errors():
        from napari_pisam.cli.models import download_model

        download_model(name)


@models_app.command("add")
def models_add(
    source: Annotated[str, typer.Argument(metavar="FILE|URL", help="A checkpoint of yours.")],
    name: Annotated[
        str | None, typer.Option("--name", help="What it is called here; by default as its file.")
    ] = None,
    expected: Annotated[
        str | None,
        typer.Option(
            "--hash", metavar="sha256:...", help="What it must have; md5: and xxh128: too."
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", help="Of the weights, where the file does not say.")
    ] = None,
) -> None:
    """Name a checkpoint, so that it is offered as a model; the file is copied."""
    with one_line_errors():
        from napari_pisam.cli.models import add_model

        add_model(source, name, expected, licence)


@models_app.command("remove")
def models_remove(name: Annotated[str, typer.Argument(help="A model's name.")]) -> None:
    """Delete the weights of a model that was downloaded or added."""
    with one_line_errors():
        from napari_pisam.cli.models import remove_model

        remove_model(name)


@models_app.command("verify")
def models_verify(
    name: Annotated[str | None, typer.Argument(help="A model's name; all that are here.")] = None,
) -> None:
    """Compute the hashes of weights again; status 1 if one is not what it should be."""
    with one_line_errors():
        from napari_pisam.cli.models import verify_models

        if not verify_models(name):
            raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    # A warning is for the user here: what it says, not which line of which module said it.
    warnings.formatwarning = lambda message, *_args, **_keywords: printable(f"Warning: {message}\n")
    # What is wrong with a TIFF is said in a sentence; its parser's own remarks are for programmers.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    app()


if __name__ == "__main__":
    main()
