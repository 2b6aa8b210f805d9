from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_pisam.learn import folders
from napari_pisam.learn.dataset import TrainingSamples
from napari_pisam.learn.folders import load_folders, tiles

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def scene(shape: tuple[int, int] = (90, 120)) -> NDArray[np.uint16]:
    """Instances 5, 300 and 7, the last two in contact."""
    labels = np.zeros(shape, np.uint16)
    labels[10:30, 10:30] = 5
    labels[40:60, 60:80] = 300
    labels[60:80, 60:80] = 7
    return labels


def write(path: Path, array: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, array)
    else:
        Image.fromarray(array).save(path, quality=95)


def pair(root: Path, name: str, labels: NDArray[Any], suffix: str = ".png") -> None:
    picture = (labels > 0) * 120 + 60
    if suffix == ".tif":
        write(root / "images" / f"{name}.tif", (picture * 200).astype(np.uint16))
    else:
        write(root / "images" / f"{name}{suffix}", picture.astype(np.uint8))
    write(root / "masks" / f"{name}.png", labels)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_instances_in_contact_stay_apart_in_every_format(suffix: str, tmp_path: Path) -> None:
    pair(tmp_path, "a", scene(), suffix)
    found = load_folders(tmp_path / "images", tmp_path / "masks")
    assert found.skipped == ()
    (piece,) = found.pieces
    assert piece.image.kind == "I"
    assert sorted(piece.image.areas.tolist()) == [400, 400, 400]
    assert piece.image.source == tmp_path.name
    assert piece.image.pixels.dtype == np.uint8
    # 8 or 16 bits: bright objects on a dark ground that uses the whole range.
    inside, outside = piece.image.pixels[15, 15], piece.image.pixels[85, 5]
    assert int(inside) - int(outside) > 100


def test_unreadable_files_are_named_and_left_out(tmp_path: Path) -> None:
    pair(tmp_path, "a", scene())
    pair(tmp_path, "broken", scene())
    (tmp_path / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    pair(tmp_path, "other", scene())
    write(tmp_path / "masks" / "other.png", np.zeros((4, 4), np.uint8))
    found = load_folders(tmp_path / "images", tmp_path / "masks")
    assert [piece.name for piece in found.pieces] == ["a"]
    assert len(found.skipped) == 2
    assert "broken.png" in found.skipped[0]
    assert "(4, 4)" in found.skipped[1]


@pytest.mark.parametrize(
    "error", [struct.error("unpack"), ZeroDivisionError(), MemoryError(), KeyError("x")]
)
def test_one_damaged_tiff_does_not_end_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    for name in ("a", "b"):
        pair(tmp_path, name, scene(), ".tif")
    read = tifffile.TiffPageSeries.asarray

    def fail(self: Any, *arguments: Any, **keywords: Any) -> Any:
        if self.keyframe.parent.filename == "b.tif":
            raise error
        return read(self, *arguments, **keywords)

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", fail)
    found = load_folders(tmp_path / "images", tmp_path / "masks")
    assert [piece.name for piece in found.pieces] == ["a"]
    assert len(found.skipped) == 1
    assert "b.tif cannot be read as TIFF" in found.skipped[0]


def test_masks_of_one_folder_are_all_of_one_kind(tmp_path: Path) -> None:
    one = np.where(scene() == 5, 5, 0).astype(np.uint16)
    pair(tmp_path, "a", scene())
    pair(tmp_path, "b", one)
    found = load_folders(tmp_path / "images", tmp_path / "masks")
    assert {piece.image.kind for piece in found.pieces} == {"I"}


def test_palette_pictures_and_masks_on_nothing_are_learnt_as_they_are_seen(tmp_path: Path) -> None:
    colours = np.zeros((90, 120, 3), np.uint8)
    colours[..., 0], colours[10:30, 10:30, 1] = 200, 220
    mask = np.full((90, 120, 4), 255, np.uint8)
    mask[..., 3] = (scene() == 5) * 255
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    Image.fromarray(colours).quantize(4).save(tmp_path / "images/a.png")
    Image.fromarray(mask).save(tmp_path / "masks/a.png")
    (piece,) = load_folders(tmp_path / "images", tmp_path / "masks").pieces
    np.testing.assert_array_equal(piece.image.pixels, colours)
    np.testing.assert_array_equal(piece.image.labels > 0, scene() == 5)


def test_masks_without_objects_are_an_error(tmp_path: Path) -> None:
    pair(tmp_path, "a", np.zeros((40, 40), np.uint8))
    with pytest.raises(ValueError, match="None of 1 pair"):
        load_folders(tmp_path / "images", tmp_path / "masks")


def test_windows_cover_an_image_and_overlap() -> None:
    seen = np.zeros((5000, 2100), bool)
    for row0, col0, row1, col1 in tiles(seen.shape):
        assert max(row1 - row0, col1 - col0) <= folders.TILE
        seen[row0:row1, col0:col1] = True
    assert seen.all()


def test_a_large_image_is_read_by_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "LARGE", 64 * 64)
    monkeypatch.setattr(folders, "TILE", 64)
    monkeypatch.setattr(folders, "STEP", 40)
    labels = np.zeros((64, 200), np.uint16)
    for i in range(9):
        labels[20:40, 20 * i + 4 : 20 * i + 18] = 1000 * (i + 1)
    pair(tmp_path, "a", labels, ".tif")
    pieces = load_folders(tmp_path / "images", tmp_path / "masks").pieces
    assert len(pieces) == 5
    whole = (labels > 0) * 120 + 60
    for piece in pieces:
        assert not isinstance(piece.image.pixels, np.ndarray)
        row0, col0, row1, col1 = piece.region
        part = labels[row0:row1, col0:col1]
        for which, box in zip(piece.image.ids, piece.image.boxes, strict=True):
            mask = piece.image.mask(int(which), slice(0, row1 - row0), slice(0, col1 - col0))
            inside = np.unique(part[mask])
            assert len(inside) == 1
            assert mask.sum() == (part == inside[0]).sum()
            assert mask[box[0] : box[2], box[1] : box[3]].sum() == mask.sum()
        shown = piece.image.pixels[:, :]
        assert np.corrcoef(shown.ravel(), whole[row0:row1, col0:col1].ravel())[0, 1] > 0.99
    samples = TrainingSamples([piece.image for piece in pieces], size=64)
    assert samples.sample(0)["mask"].any()
