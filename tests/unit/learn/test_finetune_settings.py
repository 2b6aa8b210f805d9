"""The settings of a fine-tuning: their file, their limits, and what an interface is told."""

from __future__ import annotations

import pytest

from napari_pisam.learn.finetune.resolve import base_variant
from napari_pisam.learn.finetune.settings import FineTuneSettings, setting_fields
from napari_pisam.model.variants import get_variant
from napari_pisam.weights.catalogue import CATALOGUE


@pytest.mark.parametrize(
    "changes",
    [{}, {"epochs": 3, "minutes": None, "trains": "decoder"}, {"learning_rate": 1e-5, "seed": 4}],
)
def test_settings_come_back_from_their_file(tmp_path, changes):
    settings = FineTuneSettings(**changes)
    path = tmp_path / "config.toml"
    path.write_text(settings.to_toml())
    assert FineTuneSettings.from_toml(path) == settings


def test_folders_in_a_file_are_relative_to_it(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('kind = "finetune"\nimages = "a"\nmasks = "b"\n')
    assert FineTuneSettings.from_toml(path).images == tmp_path / "a"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 3}, "either minutes or epochs"),
        ({"minutes": None}, "either minutes or epochs"),
        ({"frame": 100}, "multiple of 32"),
        ({"images": "a"}, "go together"),
        ({"trains": "nothing"}, "trains"),
        ({"colour": 1}, "colour"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(values, message):
    with pytest.raises(ValueError, match=message) as caught:
        FineTuneSettings.checked(values)
    assert "\n" not in str(caught.value)


def test_every_setting_is_explained_to_an_interface():
    fields = setting_fields()
    hidden = {"kind", "images", "masks", "mask_kind", "validation_fraction"}
    assert {field.name for field in fields} == set(FineTuneSettings.model_fields) - hidden
    for field in fields:
        assert field.help.endswith(".")
        if field.kind in ("int", "float"):
            low, high = field.limits
            assert field.default is None or low <= field.default <= high
        if field.kind == "choice":
            assert field.default in [value for value, _ in field.choices]
    plain = [field.plain for field in fields]
    assert plain == sorted(plain, reverse=True)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_model_that_is_offered_can_be_a_base(name):
    encoder = get_variant(CATALOGUE[name].variant).encoder
    tuned = base_variant(name)
    assert (tuned.kind, tuned.encoder) == ("pisam", encoder)
