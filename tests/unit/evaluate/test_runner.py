"""The protocols over files, with systems whose answers are known."""

from __future__ import annotations

import contextlib
import json
import struct

import numpy as np
import pytest
import tifffile

from napari_pisam.evaluate.baselines import FilledBox, OtsuInBox
from napari_pisam.evaluate.folders import match_folders, with_kinds
from napari_pisam.evaluate.pictures import Case, keep_worst, make_case
from napari_pisam.evaluate.report import Table, html_report, print_tables, tables
from napari_pisam.evaluate.runner import Settings, evaluate
from napari_pisam.images.image_files import ImageFileError, open_plane
from napari_pisam.images.image_source import ImageSource


@contextlib.contextmanager
def opened(path):
    yield ImageSource(tifffile.imread(path))


def scene(seed):
    ys, xs = np.ogrid[:48, :64]
    labels = np.zeros((48, 64), np.uint8)
    labels[np.hypot(ys - 14, xs - 16) < 9] = 1
    labels[np.hypot(ys - 30, xs - 44) < 12] = 2
    noise = np.random.default_rng(seed).integers(0, 20, labels.shape)
    return np.where(labels > 0, 200, 40).astype(np.uint8) + noise.astype(np.uint8), labels


@pytest.fixture
def samples(tmp_path):
    """Two sources of two images each; masks are those of the larger disc."""
    for source in ("north", "south"):
        for name in ("a", "b"):
            image, labels = scene(len(source) + ord(name))
            for kind, values in (("images", image), ("masks", (labels == 2) * np.uint8(255))):
                (tmp_path / kind / source).mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(tmp_path / kind / source / f"{name}.tif", values)
    return with_kinds(match_folders(tmp_path / "masks", tmp_path / "images"))


def test_systems_get_the_same_objects(samples):
    systems = {"box": FilledBox(), "otsu": OtsuInBox()}
    result = evaluate(samples, systems, Settings(clicks=2), open_image=opened)
    assert (result.images, result.objects) == (4, 4)
    assert [row["system"] for row in result.rows] == ["box", "otsu"] * 4
    # A disc in its box: pi / 4.
    assert result.box["box"].mean()["iou"] == pytest.approx(np.pi / 4, abs=0.05)
    assert result.box["otsu"].mean()["iou"] > 0.98
    assert sorted(result.box["box"].by_source()) == ["north", "south"]


def test_progress_ends_where_it_was_said_to(samples):
    done = []
    settings = Settings(clicks=0, worst=1)
    evaluate(samples, {"otsu": OtsuInBox()}, settings, open_image=opened, advance=done.append)
    assert sum(done) == 2 * len(samples)


def test_saved_masks_stand_in_the_same_table(samples, tmp_path):
    for sample in samples:
        target = tmp_path / "saved" / f"{sample.name}.tif"
        target.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(target, tifffile.imread(sample.mask))
    both = match_folders(tmp_path / "masks", tmp_path / "images", {"them": tmp_path / "saved"})
    result = evaluate(both, {"box": FilledBox()}, Settings(clicks=0), open_image=opened)
    assert result.box["them"].mean()["iou"] == 1
    assert result.box["them"].mean()["boundary_iou"] == 1
    table = tables(result)[0]
    assert [row[0] for row in table.rows] == ["box", "them"]


def test_saved_masks_need_no_images(samples, tmp_path):
    only = match_folders(tmp_path / "masks", predictions={"them": tmp_path / "masks"})
    result = evaluate(only, {}, Settings())
    assert result.box["them"].mean()["mae"] == 0
    assert not result.clicks


def test_the_tables_of_the_paper_are_made_on_the_worst(samples):
    systems = {"box": FilledBox(), "otsu": OtsuInBox()}
    settings = Settings(clicks=1, worst=2)
    result = evaluate(samples, systems, settings, open_image=opened)
    assert list(result.worst["box"]) == ["box", "1 click", "2 clicks", "5 clicks"]
    assert list(result.kinds["otsu"]) == ["box", "both", "background", "foreground"]
    assert result.worst["box"]["5 clicks"].mean()["objects"] == 2
    assert result.kinds["box"]["both"].mean()["objects"] == 2


def test_what_is_left_out_by_an_ablation_gets_the_box_only(samples):
    result = evaluate(
        samples, {}, Settings(), open_image=opened, ablation={"no colours": OtsuInBox()}
    )
    assert result.ablation["no colours"].mean()["iou"] > 0.98
    assert not result.rows


def test_clicks_alone_have_no_box_table(samples):
    settings = Settings(clicks=2, with_box=False)
    result = evaluate(samples, {"otsu": OtsuInBox()}, settings, open_image=opened)
    assert not result.box
    assert result.clicks["otsu"].mean()["iou_0"] == 0
    assert result.clicks["otsu"].mean()["iou_1"] > 0.5


@pytest.mark.parametrize(
    "error",
    [struct.error("unpack"), ZeroDivisionError(), MemoryError(), KeyError("x"), RecursionError()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("broken", ["image", "mask"])
def test_one_damaged_tiff_does_not_end_an_evaluation(samples, monkeypatch, error, broken):
    read = tifffile.TiffPageSeries.asarray
    path = str(getattr(samples[0], broken))

    def fail(self, *arguments, **keywords):
        if self.keyframe.parent.filehandle.path == path:
            raise error
        return read(self, *arguments, **keywords)

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", fail)
    result = evaluate(samples, {"otsu": OtsuInBox()}, Settings(clicks=0), open_image=open_plane)
    assert result.images == len(samples) - 1
    assert len(result.skipped) == 1
    assert f"{samples[0].name}: {path} cannot be read as TIFF" in result.skipped[0]


def test_a_part_that_turns_out_to_be_damaged_does_not_end_an_evaluation(samples):
    class Reader(OtsuInBox):
        images = 0

        def set_image(self, image):
            self.images += 1
            super().set_image(image)

        def predict(self, *arguments, **keywords):
            if self.images == 2:
                raise ImageFileError("b.tif cannot be read as TIFF (corrupt tile).")
            return super().predict(*arguments, **keywords)

    result = evaluate(samples, {"x": Reader()}, Settings(clicks=0), open_image=opened)
    assert result.images == len(samples) - 1
    assert result.skipped == ["north/north/b: b.tif cannot be read as TIFF (corrupt tile)."]


def test_a_file_that_cannot_be_used_is_named_and_left_out(samples):
    tifffile.imwrite(samples[0].mask, np.ones((3, 4), np.uint8))
    samples[1].mask.write_bytes(b"broken")
    result = evaluate(samples, {"otsu": OtsuInBox()}, Settings(clicks=0), open_image=opened)
    assert result.objects == 2
    assert len(result.skipped) == 2
    assert "expected the same" in result.skipped[0]
    assert "is not an image" in result.skipped[1]


def test_no_object_at_all_is_an_error(samples):
    settings = Settings(min_area=10_000)
    with pytest.raises(ValueError, match="no object of 10000 px or more in 4 mask"):
        evaluate(samples, {"otsu": OtsuInBox()}, settings, open_image=opened)


def test_a_system_without_images_is_an_error(samples, tmp_path):
    with pytest.raises(ValueError, match="Systems need images"):
        evaluate(match_folders(tmp_path / "masks"), {"otsu": OtsuInBox()}, Settings())


def test_a_name_that_is_used_twice_is_an_error(samples, tmp_path):
    twice = match_folders(tmp_path / "masks", tmp_path / "images", {"otsu": tmp_path / "masks"})
    with pytest.raises(ValueError, match="Two systems are called otsu"):
        evaluate(twice, {"otsu": OtsuInBox()}, Settings(), open_image=opened)


def test_numbers_are_json_without_nan(samples):
    result = evaluate(samples, {"box": FilledBox()}, Settings(clicks=1), open_image=opened)
    content = json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert content["box"]["box"]["sources"]["north"]["objects"] == 2
    assert len(content["rows"]) == 4
    assert content["rows"][0]["clicks"][0][2] in (True, False)


# -- the report -------------------------------------------------------------------------------


def test_the_worst_are_kept_the_worst_first():
    kept, truth = [], np.ones((4, 10), bool)
    for width in (5, 9, 2, 7, 1):
        mask = np.zeros_like(truth)
        mask[:, :width] = True
        keep_worst(kept, 3, lambda w=width: Case(str(w), (w / 10,), b""), (mask,), truth)
    assert [case.title for case in kept] == ["1", "2", "5"]


def test_a_case_has_a_panel_for_each_mask():
    image, labels = scene(0)
    truth = labels == 2
    masks = (truth, np.roll(truth, 3, 1))
    case = make_case("one", image, truth, masks, clicks=[(20, 40, True), (5, 60, False)])
    single = make_case("one", None, truth, masks[:1])
    assert case.ious[0] == 1
    assert case.ious[1] < 1
    sizes = [int.from_bytes(c.png[16:20], "big") for c in (case, single)]  # PNG's width
    assert case.png.startswith(b"\x89PNG")
    assert sizes[0] > 1.5 * sizes[1]


def test_the_page_escapes_names_and_loads_nothing():
    case = Case('<script>alert("x")</script>', (0.25, 0.5), b"png")
    page = html_report("<b>", [Table("T&T", ["<i>"], [["<u>"]])], {"<s>": [case]}, ["a < b"])
    for tag in ("<script", "<b>", "<i>", "<u>", "<s>"):
        assert tag not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page
    assert "T&amp;T" in page
    assert "data:image/png;base64,cG5n" in page
    assert "0.250 -&gt; 0.500" in page


def test_pictures_are_of_the_objects_with_the_smallest_iou(samples):
    settings = Settings(clicks=1, pictures=2)
    result = evaluate(samples, {"box": FilledBox()}, settings, open_image=opened)
    kept = [case.ious[0] for case in result.cases["box"]]
    measured = sorted(row["ious"][0] for row in result.rows)
    assert kept == pytest.approx(measured[:2])


def test_a_table_by_source_where_there_are_several(samples):
    result = evaluate(samples, {"box": FilledBox()}, Settings(clicks=3), open_image=opened)
    titles = {table.title: table for table in tables(result)}
    rows = titles["By source"].rows
    assert [row[:2] for row in rows] == [["north", "box"], ["south", "box"]]
    assert all(len(row) == len(table.columns) for table in titles.values() for row in table.rows)


def test_names_give_no_orders_to_a_terminal_or_a_page(capsys):
    order = "\x1b]0;owned\x07\x9b2J\u202e"
    table = Table("T", ["system"], [[f"a{order}b"]])
    print_tables([table])
    printed = capsys.readouterr().out
    page = html_report("T", [table], {}, [f"Left out: {order}"])
    for text in (printed, page):
        assert not set(text) & set("\x1b\x07\x9b\u202e")
