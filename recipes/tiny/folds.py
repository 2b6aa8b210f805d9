"""Folds for leaving sources out.

Five runs, each without one fold, together say how good a recipe is on sources that it never saw.
Sets of one domain are in one fold, so that leaving a set out leaves its like out too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_pisam.images.files import replacing
from napari_pisam.weights.checkpoint_format import read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from recipes.tiny.config import RecipeConfig

FOLDS: tuple[frozenset[str], ...] = (
    # Tissue, nuclei and the borders of cells.
    frozenset(
        {
            "dsb2018_nuclei",
            "nuinsseg_oesophagus",
            "glomeruli_pas",
            "prostate_glands",
            "corneal_endothelium",
        }
    ),
    # Cells, neurons, axons, embryos; what electron microscopes see of brains.
    frozenset(
        {
            "usiigaci_phase",
            "pfc_neurons",
            "axon_sem_axons",
            "axon_sem_myelin",
            "embryos",
            "cortex_em_membranes",
            "cortex_em_neurites",
            "fib_em_membranes",
            "fib_em_neurites",
            "neurons_em_course",
        }
    ),
    # Materials and grains.
    frozenset(
        {
            "nasa_superalloy",
            "nasa_ebc",
            "nasa_meltpool",
            "bn_flakes",
            "pebbles",
            "sand_grains",
            "pv_el_cells",
        }
    ),
    # Damage, and what is seen from outside and above.
    frozenset(
        {
            "road_damage",
            "concrete_damage",
            "car_damage",
            "flood_water",
            "aerial_solar",
            "satellite_forest",
            "aerial_roads",
            "pavement_cracks",
            "uav_cracks",
        }
    ),
    # Medical scans and layers; plants, roots, animals and hands.
    frozenset(
        {
            "carotid_ultrasound",
            "octa_faz",
            "lumbar_mri",
            "seismic_layers",
            "coffee_leaf",
            "coffee_leaf_lesions",
            "mushrooms",
            "wild_animals",
            "hrf_vessels",
            "nerve_ultrasound",
            "grape_leaf_blades",
            "grape_leaf_veins",
            "leaf_veins",
            "leaves_lighttable",
            "minirhizotron_roots",
            "hands_grabcut",
        }
    ),
)
"""Sets by fold. Sets for validation only are in no training; each is scored with the fold that
leaves out its like."""

KIND_FOLDS: tuple[frozenset[str], ...] = (
    frozenset({"cells", "nuclei"}),
    frozenset({"filaments", "network", "membranes", "rings", "hairs", "cables"}),
    frozenset({"particles", "mesh", "regions"}),
    frozenset({"cracks", "shapes"}),
    frozenset({"vessels", "vessel_tree", "roots", "leaves"}),
)
"""Families of generated images by fold."""


def fold_of(source: str) -> int | None:
    """Find the fold of a set, or of a family as ``synthetic:NAME``; None if it is in none."""
    family = source.removeprefix("synthetic:")
    folds = FOLDS if family == source else KIND_FOLDS
    return next((number for number, names in enumerate(folds) if family in names), None)


def without_fold(base: RecipeConfig, fold: int, available: Iterable[str]) -> RecipeConfig:
    """Derive the settings of a run that leaves a fold out.

    Parameters
    ----------
    base : RecipeConfig
        What it holds out stays out; its ``output`` gets a folder ``foldN``.
        ``initial`` may name the fold's own earlier run by ``{fold}``.
    fold : int
        0 to 4.
    available : iterable of str
        Sets that exist.

    Raises
    ------
    ValueError
        If there is no such fold, or the run does not start afresh (ImageNet's weights are fresh):
        with weights that saw the fold, leaving it out would be a pretence.
    """
    if not 0 <= fold < len(FOLDS):
        raise ValueError(f"fold is {fold}, expected 0 to {len(FOLDS) - 1}.")
    initial = None if base.initial is None else str(base.initial)
    if initial is not None and "{fold}" not in initial and not _is_untrained(Path(initial)):
        raise ValueError(
            "A run that leaves sets out has to start from fresh weights, from a file of ImageNet's "
            "(recipes.tiny.imagenet), or from an earlier run that left the same out: name "
            "fold{fold} in initial."
        )
    sets = sorted(set(base.held_out) | (FOLDS[fold] & set(available)))
    kinds = sorted(set(base.held_out_kinds) | KIND_FOLDS[fold])
    output = base.output / f"fold{fold}"
    changes = {"held_out": sets, "held_out_kinds": kinds, "output": output}
    if initial is not None:
        changes["initial"] = Path(initial.replace("{fold}", str(fold)))
    return base.model_copy(update=changes)


def _is_untrained(path: Path) -> bool:
    """Whether weights are those of `imagenet.write_initial`, whose header tells of no training."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    header = read_checkpoint(path).header
    return header is not None and not header.training


def write_folds(base: RecipeConfig, folder: Path) -> list[Path]:
    """Write the settings of all folds as ``FOLDER/foldN.toml``.

    Raises
    ------
    ValueError
        If there are no sets, or a set is in no fold.
    """
    sets = base.data / "sets"
    available = sorted(path.name for path in sets.iterdir()) if sets.is_dir() else []
    homeless = [name for name in available if fold_of(name) is None]
    if homeless or not available:
        raise ValueError(
            f"{sets} holds {len(available)} sets, of which these are in no fold: {homeless}. Add "
            "them to FOLDS, beside their like."
        )
    configs = [without_fold(base, number, available) for number in range(len(FOLDS))]
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"fold{number}.toml" for number in range(len(FOLDS))]
    for path, config in zip(paths, configs, strict=True):
        with replacing(path) as part:
            part.write_text(config.to_toml(), encoding="utf-8")
    return paths
