from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_pisam.learn.finetune import sources
from napari_pisam.learn.finetune.crops import plan_crops, read_crop
from napari_pisam.learn.finetune.sources import from_folders, list_objects, tiles

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
    (image,), skipped = from_folders(tmp_path / "images", tmp_path / "masks")
    assert skipped == []
    assert [row.area for row in list_objects([image])] == [400, 400, 400]
    assert image.image.dtype == np.uint8
    # 8 or 16 bits: bright objects on a dark ground that uses the whole range.
    inside, outside = image.image[15, 15], image.image[85, 5]
    assert int(inside) - int(outside) > 100


def test_unreadable_files_are_named_and_left_out(tmp_path: Path) -> None:
    pair(tmp_path, "a", scene())
    pair(tmp_path, "broken", scene())
    (tmp_path / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    pair(tmp_path, "other", scene())
    write(tmp_path / "masks" / "other.png", np.zeros((4, 4), np.uint8))
    images, skipped = from_folders(tmp_path / "images", tmp_path / "masks")
    assert [image.name for image in images] == ["a"]
    assert len(skipped) == 2
    assert "broken.png" in skipped[0]
    assert "(4, 4)" in skipped[1]


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
    images, skipped = from_folders(tmp_path / "images", tmp_path / "masks")
    assert [image.name for image in images] == ["a"]
    assert len(skipped) == 1
    assert "b.tif cannot be read as TIFF" in skipped[0]


def test_masks_of_one_folder_are_all_of_one_kind(tmp_path: Path) -> None:
    one = np.where(scene() == 5, 5, 0).astype(np.uint16)
    pair(tmp_path, "a", scene())
    pair(tmp_path, "b", one)
    images, _ = from_folders(tmp_path / "images", tmp_path / "masks")
    assert [len(list_objects([image])) for image in images] == [3, 1]


def test_palette_pictures_and_masks_on_nothing_are_learnt_as_they_are_seen(tmp_path: Path) -> None:
    colours = np.zeros((90, 120, 3), np.uint8)
    colours[..., 0], colours[10:30, 10:30, 1] = 200, 220
    mask = np.full((90, 120, 4), 255, np.uint8)
    mask[..., 3] = (scene() == 5) * 255
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    Image.fromarray(colours).quantize(4).save(tmp_path / "images/a.png")
    Image.fromarray(mask).save(tmp_path / "masks/a.png")
    (image,), _ = from_folders(tmp_path / "images", tmp_path / "masks")
    np.testing.assert_array_equal(image.image, colours)
    np.testing.assert_array_equal(image.labels > 0, scene() == 5)


def test_masks_without_objects_are_an_error(tmp_path: Path) -> None:
    pair(tmp_path, "a", np.zeros((40, 40), np.uint8))
    with pytest.raises(ValueError, match="None of 1 pair"):
        from_folders(tmp_path / "images", tmp_path / "masks")


def test_windows_cover_an_image_and_overlap() -> None:
    seen = np.zeros((5000, 2100), bool)
    for row0, col0, row1, col1 in tiles(seen.shape):
        assert max(row1 - row0, col1 - col0) <= sources.TILE
        seen[row0:row1, col0:col1] = True
    assert seen.all()


def test_a_large_image_is_read_by_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LARGE", 64 * 64)
    monkeypatch.setattr(sources, "TILE", 64)
    monkeypatch.setattr(sources, "STEP", 40)
    labels = np.zeros((64, 200), np.uint16)
    for i in range(9):
        labels[20:40, 20 * i + 4 : 20 * i + 18] = 1000 * (i + 1)
    pair(tmp_path, "a", labels, ".tif")
    images, _ = from_folders(tmp_path / "images", tmp_path / "masks")
    assert [image.name for image in images][:2] == ["a at 0, 0", "a at 0, 40"]
    assert len(images) == 5
    for image in images:
        assert not isinstance(image.image, np.ndarray)
        rows = list_objects([image])
        (crop,) = plan_crops([image], rows)
        pixels, found = read_crop(crop)
        start = int(image.name.rpartition(" ")[2])
        part = labels[:, start : start + found.shape[1]]
        for row in rows:
            (value,) = np.unique(part[found == row.label])
            assert row.area == (part == value).sum()
        assert np.corrcoef(pixels.ravel(), (part > 0).ravel())[0, 1] > 0.99


@pytest.mark.parametrize("kind", ["instances", "binary"])
def test_an_object_in_two_windows_is_used_in_one_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(sources, "LARGE", 64 * 64)
    monkeypatch.setattr(sources, "TILE", 64)
    monkeypatch.setattr(sources, "STEP", 40)
    labels = np.zeros((150, 200), np.uint16)
    areas = []
    # Every offset to a window's edge, its first line included; no larger than the overlap.
    for i, (row, col) in enumerate(np.ndindex(6, 8), start=1):
        height, width = 10 + (3 * i) % 14, 10 + (5 * i) % 14
        labels[25 * row : 25 * row + height, 25 * col : 25 * col + width] = i
        areas.append(height * width)
    pair(tmp_path, "a", labels if kind == "instances" else (labels > 0) * np.uint8(255), ".tif")
    images, _ = from_folders(tmp_path / "images", tmp_path / "masks", kind=kind)
    assert len(images) > 4
    assert sorted(row.area for row in list_objects(images)) == sorted(areas)
