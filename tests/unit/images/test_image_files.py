"""One reader: what napari's own gives, or a picture where that would be none, or a sentence."""

from __future__ import annotations

import contextlib
import struct
import time
import tracemalloc
import zlib

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_pisam.images import image_files
from napari_pisam.images.image_files import ImageFileError, open_image, open_plane
from napari_pisam.images.mask_files import read_mask

SHAPE = (24, 36)
RNG = np.random.default_rng(3)
GREY = RNG.integers(0, 255, SHAPE, dtype=np.uint8)
ALPHA = RNG.integers(0, 255, SHAPE, dtype=np.uint8)
RGB = RNG.integers(0, 255, (*SHAPE, 3), dtype=np.uint8)


@pytest.fixture
def peak_memory():
    """Measure the most that Python and numpy hold at a time, bytes."""

    @contextlib.contextmanager
    def measuring():
        tracemalloc.start()
        try:
            yield
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 50e6

    return measuring


def pixels(path):
    """Return all pixels of the one plane, (H, W, C)."""
    with open_plane(path) as source:
        return source.read((slice(0, source.shape[0]), slice(0, source.shape[1])))


def save_exif(path):
    exif = Image.Exif()
    exif[274] = 6  # "turn by 90 degrees to show"
    Image.fromarray(RGB).save(path, exif=exif)


def save_palette(path):
    Image.fromarray(RGB).quantize(8).save(path)


WRITERS = {
    "grey.png": lambda p: Image.fromarray(GREY).save(p),
    "rgb.png": lambda p: Image.fromarray(RGB).save(p),
    "bits.png": lambda p: Image.fromarray(GREY).convert("1").save(p),
    "palette.png": save_palette,
    "sixteen.png": lambda p: Image.fromarray(GREY.astype(np.uint16) * 257).save(p),
    "grey.jpg": lambda p: Image.fromarray(GREY).save(p),
    "rgb.jpg": lambda p: Image.fromarray(RGB).save(p),
    "turned.jpg": save_exif,
    "lossless.webp": lambda p: Image.fromarray(RGB).save(p, lossless=True),
    "rgb.bmp": lambda p: Image.fromarray(RGB).save(p),
    "float.tif": lambda p: tifffile.imwrite(p, GREY.astype(np.float32) / 7),
    "half.tif": lambda p: tifffile.imwrite(p, GREY.astype(np.float16)),
    "signed.tif": lambda p: tifffile.imwrite(p, GREY.astype(np.int16) - 99),
    "bool.tif": lambda p: tifffile.imwrite(p, GREY > 99),
    "fax.tif": lambda p: Image.fromarray(GREY).convert("1").save(p, compression="group4"),
    "bigendian.tif": lambda p: tifffile.imwrite(p, GREY.astype(">u2") * 99, byteorder=">"),
    "white.tif": lambda p: tifffile.imwrite(p, GREY, photometric="miniswhite"),
    "palette.tif": save_palette,
    "rgb.tif": lambda p: tifffile.imwrite(p, RGB, photometric="rgb"),
    "jpeg.tif": lambda p: tifffile.imwrite(p, RGB, photometric="ycbcr", compression="jpeg"),
    "rgb16.tif": lambda p: tifffile.imwrite(p, RGB.astype(np.uint16) * 200, photometric="rgb"),
    "lzw.tif": lambda p: Image.fromarray(RGB).save(p, compression="tiff_lzw"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_pixels_are_those_that_naparis_reader_gives(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    expected = iio.imread(path)  # what napari calls
    found = pixels(path)
    np.testing.assert_array_equal(found[..., 0] if expected.ndim == 2 else found, expected)
    assert found.dtype == expected.dtype


def test_planar_colours_are_the_same_picture(tmp_path):
    path = tmp_path / "planar.tif"
    tifffile.imwrite(path, RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(pixels(path), RGB)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), RGB)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("colours", [GREY[..., None], RGB], ids=["grey", "rgb"])
def test_alpha_is_no_channel(tmp_path, suffix, colours):
    path = tmp_path / f"alpha{suffix}"
    values = np.dstack([colours, ALPHA])
    if suffix == ".png":
        Image.fromarray(values).save(path)
    else:
        photometric = "rgb" if colours.shape[2] == 3 else "minisblack"
        tifffile.imwrite(path, values, photometric=photometric, extrasamples=["unassalpha"])
    np.testing.assert_array_equal(pixels(path), colours)


@pytest.mark.parametrize("name", ["ink.tif", "ink.jpg"])
def test_ink_becomes_light(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(RGB).convert("CMYK").save(path)
    with Image.open(path) as picture:
        expected = np.asarray(picture.convert("RGB"))
    assert np.abs(pixels(path).astype(int) - expected).max() <= 1
    with open_plane(path) as source:
        assert source.is_rgb


def test_colours_of_a_gif_are_colours(tmp_path):
    save_palette(tmp_path / "a.gif")
    np.testing.assert_array_equal(pixels(tmp_path / "a.gif"), iio.imread(tmp_path / "a.gif")[0])


def test_a_film_is_refused(tmp_path):
    frames = [Image.fromarray(np.roll(RGB, step, 0)).quantize(8) for step in (0, 5)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageFileError, match="has 2 frames"):
        pixels(tmp_path / "a.gif")


@pytest.mark.parametrize("kind", ["LAB"])
def test_colours_that_neither_can_show_are_refused(tmp_path, kind):
    Image.fromarray(RGB).convert(kind).save(tmp_path / "a.tif")
    with pytest.raises(ImageFileError, match="CIELAB, expected grey, RGB or CMYK"):
        pixels(tmp_path / "a.tif")


def test_channels_of_ome_are_channels(tmp_path):
    path = tmp_path / "a.ome.tif"
    values = RNG.integers(0, 9, (5, *SHAPE), dtype=np.uint16)
    tifffile.imwrite(path, values, metadata={"axes": "CYX"})
    with open_image(path) as opened:
        assert opened.channel_axis() == 0
        whole = (slice(0, SHAPE[0]), slice(0, SHAPE[1]))
        np.testing.assert_array_equal(opened.view((3,)).read(whole)[..., 0], values[3])
        both = opened.view(channels=(4, 1)).read(whole)
        np.testing.assert_array_equal(both, values[[4, 1]].transpose(1, 2, 0))


# -- what may come in -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cells.png", "cells.jpg", "cells.eps"])
def test_no_other_program_is_started_for_a_picture(tmp_path, monkeypatch, name):
    from PIL import EpsImagePlugin

    def ghostscript(*_arguments, **_keywords):
        raise AssertionError("a program was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / name).write_bytes(page)
    with pytest.raises(ImageFileError, match=r"is not an image; expected TIFF, OME-TIFF, PNG"):
        pixels(tmp_path / name)


def ome_with_parts(path, first, second):
    """An OME-TIFF whose second plane is said to be in another file."""
    tifffile.imwrite(path, np.zeros(SHAPE, np.uint8), metadata=None, description=f"""\
<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"
 UUID="urn:uuid:1"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8"
 SizeX="{SHAPE[1]}" SizeY="{SHAPE[0]}" SizeZ="2" SizeC="1" SizeT="1"><Channel ID="Channel:0:0"
 SamplesPerPixel="1"/><TiffData IFD="0" FirstZ="0" PlaneCount="1"><UUID FileName="{first}"
 >urn:uuid:1</UUID></TiffData><TiffData IFD="0" FirstZ="1" PlaneCount="1"><UUID FileName="{second}"
 >urn:uuid:2</UUID></TiffData></Pixels></Image></OME>""")  # fmt: skip


@pytest.mark.parametrize("how", ["../secret.tif", "&#46;&#46;/secret.tif", "/ABSOLUTE", "link.tif"])
def test_ome_metadata_does_not_read_files_from_elsewhere(tmp_path, how):
    secret, folder = tmp_path / "secret.tif", tmp_path / "given"
    folder.mkdir()
    tifffile.imwrite(secret, np.full(SHAPE, 77, np.uint8))
    (folder / "link.tif").symlink_to(secret)
    ome_with_parts(folder / "a.ome.tif", "a.ome.tif", how.replace("/ABSOLUTE", str(secret)))
    with (
        pytest.raises(ImageFileError, match="expected files in its own folder"),
        open_image(folder / "a.ome.tif"),
    ):
        pass


def test_ome_parts_beside_each_other_are_one_image(tmp_path):
    tifffile.imwrite(tmp_path / "b.ome.tif", np.full(SHAPE, 77, np.uint8), metadata=None)
    ome_with_parts(tmp_path / "a.ome.tif", "a.ome.tif", "b.ome.tif")
    with open_image(tmp_path / "a.ome.tif") as opened:
        assert opened.axes == "ZYX"
        assert np.asarray(opened.data)[:, 0, 0].tolist() == [0, 77]


def png_chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def test_size_of_a_picture_is_checked_before_memory_is_taken(tmp_path, peak_memory):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
    content += png_chunk(b"IDAT", zlib.compress(b"\0" * 100_000)) + png_chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(content)
    with peak_memory(), pytest.raises(ImageFileError, match="more pixels than"):
        pixels(tmp_path / "bomb.png")


def test_size_of_a_tile_is_checked_before_memory_is_taken(tmp_path, peak_memory):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), tile=(64, 64), compression="zlib")
    content = bytearray(path.read_bytes())
    for tag in (256, 257, 322, 323):  # width, length, and those of tiles
        place = content.index(struct.pack("<HH", tag, 4)) if struct.pack(
            "<HH", tag, 4) in content else content.index(struct.pack("<HH", tag, 3))  # fmt: skip
        content[place : place + 12] = struct.pack("<HHII", tag, 4, 1, 1 << 20)
    path.write_bytes(content)
    with peak_memory(), pytest.raises(ImageFileError, match="tile or strip"):
        pixels(path)


@pytest.mark.parametrize(
    "error",
    [struct.error("unpack"), ZeroDivisionError(), MemoryError(), KeyError("x"), RecursionError(),
     AssertionError(), IndexError("list"), TypeError("None")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_whatever_a_parser_raises_is_a_sentence_about_the_file(tmp_path, monkeypatch, name, error):
    path = tmp_path / name
    iio.imwrite(path, GREY)

    def fail(*_arguments, **_keywords):
        raise error

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", fail)
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(ImageFileError, match=rf"{name} cannot be read.*Check that it is whole"):
        pixels(path)


def test_damaged_files_are_read_or_refused_with_a_sentence(tmp_path):
    """Bytes changed at random, files cut short: with a fixed seed, in every format."""
    rng, tried = np.random.default_rng(8), 0
    for name in ("rgb.png", "grey.jpg", "rgb.tif", "lzw.tif", "jpeg.tif", "bits.png"):
        whole = tmp_path / name
        WRITERS[name](whole)
        content = whole.read_bytes()
        for _ in range(25):
            damaged = bytearray(content)
            for _ in range(int(rng.integers(1, 6))):
                # Headers are where it hurts.
                end = min(len(damaged), 400) if rng.random() < 0.7 else len(damaged)
                start = len(damaged) - 400 if name.endswith("tif") and rng.random() < 0.5 else 0
                place = int(rng.integers(max(0, start), max(end, start + 400)))
                damaged[min(place, len(damaged) - 1)] = int(rng.integers(256))
            cut = len(damaged) if rng.random() < 0.7 else int(rng.integers(9, len(damaged)))
            path = tmp_path / f"damaged{whole.suffix}"
            path.write_bytes(damaged[:cut])
            tried += 1
            with contextlib.suppress(ImageFileError):
                assert pixels(path).ndim == 3
            with contextlib.suppress(ImageFileError):
                assert read_mask(path).ndim == 2
    assert tried == 150


def test_a_part_that_is_damaged_is_a_sentence_when_it_is_read(tmp_path, monkeypatch):
    pytest.importorskip("zarr")
    path = tmp_path / "a.tif"
    values = RNG.integers(0, 255, (128, 128), dtype=np.uint8)
    tifffile.imwrite(path, values, tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(path) as file:
        last = file.pages.first.dataoffsets[-1]
    content = bytearray(path.read_bytes())
    content[last : last + 8] = b"\xff" * 8
    path.write_bytes(content)
    monkeypatch.setattr(image_files, "_SMALL", 0)
    with open_plane(path) as source:
        np.testing.assert_array_equal(
            source.read((slice(0, 64), slice(0, 64)))[..., 0], values[:64, :64]
        )
        with pytest.raises(ImageFileError, match=r"a\.tif cannot be read"):
            source.read((slice(64, 128), slice(64, 128)))


def test_a_tiff_that_claims_more_tiles_than_it_lists_is_refused_at_once(tmp_path):
    path = tmp_path / "claims.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as file:
        for name in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[name].overwrite(1 << 24)
    started = time.monotonic()
    with pytest.raises(ImageFileError, match="tiles or strips a page"), open_image(path) as opened:
        opened.data[0][:4, :4]
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("back_to", [0, 1])
def test_pages_that_lead_back_to_earlier_ones_are_refused_at_once(tmp_path, bigtiff, back_to):
    path = tmp_path / "a.tif"
    pages = np.stack([GREY] * 3)
    tifffile.imwrite(path, pages, bigtiff=bigtiff, metadata=None, photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        offsets, tiff = [page.offset for page in file.pages], file.tiff
        tags = len(file.pages[2].tags)
    content = bytearray(path.read_bytes())
    place = offsets[2] + tiff.tagnosize + tags * tiff.tagsize
    assert content[place : place + tiff.offsetsize] == bytes(tiff.offsetsize)
    content[place : place + tiff.offsetsize] = struct.pack(tiff.offsetformat, offsets[back_to])
    path.write_bytes(content)
    started = time.perf_counter()
    for reader in (open_image, open_plane):
        with (
            pytest.raises(ImageFileError, match="goes back to an earlier one after page 3"),
            reader(path),
        ):
            pass
    with pytest.raises(ImageFileError, match="goes back to an earlier one"):
        read_mask(path)
    assert time.perf_counter() - started < 5
