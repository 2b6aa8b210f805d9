"""OME-Zarr as images: NGFF 0.4 and 0.5, plates, and what may not be opened."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr

from napari_pisam.images.addresses import find_images
from napari_pisam.images.image_files import ImageFileError, open_image

AXES = [
    {"name": "c", "type": "channel"},
    {"name": "y", "type": "space", "unit": "micrometer"},
    {"name": "x", "type": "space", "unit": "micrometer"},
]


def pixels(shape=(2, 40, 60)):
    return np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)


def write(path, version, data=None, compressors="auto"):
    """An image of two levels."""
    data = pixels() if data is None else data
    group = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2)
    datasets = []
    for level, array in enumerate((data, data[..., ::2, ::2])):
        group.create_array(str(level), data=array, chunks=(1, 16, 16), compressors=compressors)
        scale = [1.0, 0.5 * 2**level, 0.25 * 2**level]
        transform = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(level), "coordinateTransformations": transform})
    multiscales = [{"version": version, "axes": AXES, "datasets": datasets}]
    group.attrs.update(
        {"ome": {"version": version, "multiscales": multiscales}}
        if version == "0.5"
        else {"multiscales": multiscales}
    )
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_image_is_read_by_windows(tmp_path, version):
    with open_image(write(tmp_path / "a.zarr", version)) as opened:
        assert (opened.axes, opened.shape) == ("CYX", (2, 40, 60))
        assert opened.pixel_size == ((0.5, 0.25), ("micrometer", "micrometer"))
        assert [level.shape for level in opened.data] == [(2, 40, 60), (2, 20, 30)]
        source = opened.view(channels=[1])
        window = source.read((slice(3, 9), slice(4, 20)))
        np.testing.assert_array_equal(window[..., 0], pixels()[1, 3:9, 4:20])


def test_a_plate_and_images_side_by_side(tmp_path):
    plate = zarr.create_group(tmp_path / "plate.zarr", zarr_format=2)
    plate.attrs["plate"] = {"wells": [{"path": "A/1"}, {"path": "B/2"}]}
    for well in ("A/1", "B/2"):
        plate.create_group(well).attrs["well"] = {"images": [{"path": "0"}]}
        write(tmp_path / "plate.zarr" / well / "0", "0.4")
    several = zarr.create_group(tmp_path / "several.zarr", zarr_format=2)
    several.attrs["bioformats2raw.layout"] = 3
    write(tmp_path / "several.zarr" / "0", "0.4")
    write(tmp_path / "several.zarr" / "1", "0.4")
    found = find_images([tmp_path])
    assert [one.name for one in found] == [
        "plate/A/1/0",
        "plate/B/2/0",
        "several/0",
        "several/1",
    ]
    for one in found:
        with one.open() as opened:
            assert opened.shape == (2, 40, 60)
    with pytest.raises(ImageFileError, match="it holds 2 images, expected one: A/1/0"):
        open_image(tmp_path / "plate.zarr").__enter__()


def change(path, name, **fields):
    file = path / "0" / name
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def point(path, place):
    attributes = json.loads((path / ".zattrs").read_text())
    attributes["multiscales"][0]["datasets"][0]["path"] = place
    (path / ".zattrs").write_text(json.dumps(attributes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: change(path, ".zarray", compressor={"id": "pickle"}), "might run code"),
        (lambda path: change(path, ".zarray", filters=[{"id": "pickle"}]), "might run code"),
        (lambda path: change(path, ".zarray", dtype="|O"), "expected numbers"),
        (lambda path: change(path, ".zarray", chunks=[1, 1 << 20, 1 << 20]), "expected chunks"),
        (lambda path: (path / "0" / ".zarray").unlink(), "is missing"),
        (lambda path: point(path, "../other.zarr/0"), "expected a folder inside it"),
        (lambda path: point(path, "/etc"), "expected a folder inside it"),
        (lambda path: (path / ".zattrs").write_text("{"), "is damaged"),
        (lambda path: (path / ".zattrs").write_text("{}"), "holds no OME-Zarr image"),
        (lambda path: (path / ".zattrs").write_text('{"multiscales": []}'), "is empty"),
    ],
)
def test_what_is_wrong_or_not_harmless_is_a_sentence(tmp_path, damage, message):
    path = write(tmp_path / "a.zarr", "0.4")
    write(tmp_path / "other.zarr", "0.4")
    damage(path)
    with pytest.raises(ImageFileError, match=message), open_image(path):
        pass


def test_codecs_of_version_3_are_checked_too(tmp_path):
    path = write(tmp_path / "a.zarr", "0.5")
    inner = {"codecs": [{"name": "numcodecs.pickle"}], "chunk_shape": [1, 8, 8]}
    change(path, "zarr.json", codecs=[{"name": "sharding_indexed", "configuration": inner}])
    with pytest.raises(ImageFileError, match=r"codec 'numcodecs\.pickle'"), open_image(path):
        pass


def test_a_damaged_chunk_is_a_sentence_when_it_is_read(tmp_path):
    path = write(tmp_path / "a.zarr", "0.4")
    for chunk in (path / "0").rglob("*"):
        if chunk.is_file() and not chunk.name.startswith("."):
            chunk.write_bytes(b"damaged")
    with open_image(path) as opened, pytest.raises(ImageFileError, match="as OME-Zarr"):
        opened.view(channels=[0]).read((slice(0, 4), slice(0, 4)))
