"""The models that are offered by name: an entry is data, and a new model is one entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_pisam.images.kinds import ImageKind

_SAM = "Kirillov et al. 2023, Segment Anything, arXiv:2304.02643"
_MOBILE_SAM = "Zhang et al. 2023, Faster Segment Anything, arXiv:2306.14289"
_HQ_SAM = "Ke et al. 2023, Segment Anything in High Quality, arXiv:2306.01567"
_MICRO_SAM = "Archit et al. 2025, Segment Anything for Microscopy, doi:10.1038/s41592-024-02580-4"
_PATHO_SAM = "Griebel et al. 2025, Segment Anything for Histopathology, arXiv:2502.00408"
_META = "https://dl.fbaipublicfiles.com/segment_anything/"
_HUB = "https://huggingface.co/lkeab/hq-sam/resolve/main/"
_BIOIMAGE = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io/"
_GWDG = "https://owncloud.gwdg.de/index.php/s/"
_PHOTOGRAPHS = "photographs; cells and other things that stand out"
_OUTLINES = "thin structures and exact outlines in photographs"
_LIGHT = "cells and nuclei in light microscopy"
_ELECTRON = "organelles in electron microscopy"
_TISSUE = "nuclei and glands in stained tissue"
_KINDS: dict[str, ImageKind] = {_LIGHT: "fluorescence", _ELECTRON: "electron", _TISSUE: "tissue"}


@dataclass(frozen=True)
class CatalogueEntry:
    """One model that is offered by name.

    Attributes
    ----------
    name
        What users type.
    variant
        The network that the weights are of, a name of `napari_pisam.model.variants`.
    good_for
        In a few words, for people who choose.
    size
        Of the file, bytes; rounded unless `is_exact_size`.
    licence, citation
        As the authors state them.
    hash
        What the file must have: ``"sha256:..."``, ``"md5:..."``, or ``"xxh128:..."``, which tells
        damage but not a file that was changed on purpose. Nothing is offered without one; the
        embedded model's is beside it in the package.
    address
        Where it is downloaded from; empty for the embedded model.
    file_name
        In the cache folder, or in the package.
    mirrors
        Other addresses of the same file, for when the first does not have it.
    suits
        The kind of image that it is recommended for.
    """

    name: str
    variant: str
    good_for: str
    size: int
    licence: str
    citation: str
    hash: str
    address: str
    file_name: str
    is_exact_size: bool = False
    mirrors: tuple[str, ...] = ()
    suits: ImageKind | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether the weights are inside the package."""
        return not self.address


def _sam(size: str, stem: str, sha256: str, nbytes: int, *, exact: bool = True) -> CatalogueEntry:
    return CatalogueEntry(
        name=f"sam_vit_{size}",
        variant=f"sam_vit_{size}",
        good_for=_PHOTOGRAPHS,
        size=nbytes,
        licence="Apache-2.0",
        citation=_SAM,
        hash=f"sha256:{sha256}",
        address=f"{_META}{stem}.pth",
        file_name=f"{stem}.pth",
        is_exact_size=exact,
        suits="photograph",
    )


def _hq_sam(size: str, md5: str, nbytes: int) -> CatalogueEntry:
    return CatalogueEntry(
        name=f"hqsam_vit_{size}",
        variant=f"hqsam_vit_{size}",
        good_for=_OUTLINES,
        size=nbytes,
        licence="Apache-2.0",
        citation=_HQ_SAM,
        hash=f"md5:{md5}",
        address=f"{_HUB}sam_hq_vit_{size}.pth",
        file_name=f"sam_hq_vit_{size}.pth",
        suits="photograph",
    )


def _micro_sam(name: str, good_for: str, place: str, xxh128: str) -> CatalogueEntry:
    """Enter a model of the micro-sam project, e.g. ``"vit_b_lm"``."""
    size = name[4]
    return CatalogueEntry(
        name=f"microsam_{name}",
        variant=f"sam_vit_{size}",
        good_for=good_for,
        size={"t": 40_000_000, "b": 375_000_000, "l": 1_250_000_000, "h": 2_560_000_000}[size],
        licence="MIT / CC BY 4.0, see its page",
        citation=_PATHO_SAM if good_for == _TISSUE else _MICRO_SAM,
        hash=f"xxh128:{xxh128}",
        address=f"{_GWDG}{place}/download" if good_for == _TISSUE else f"{_BIOIMAGE}{place}",
        file_name=f"microsam_{name}.pt",
        suits=_KINDS[good_for],
    )


_ENTRIES = (
    CatalogueEntry(
        name="tiny",
        variant="tiny",
        good_for="compact objects, some lines",
        size=17_000_000,
        licence="MIT",
        citation="this project",
        hash="",
        address="",
        file_name="tiny.safetensors",
    ),
    CatalogueEntry(
        name="sam_vit_t",
        variant="sam_vit_t",
        good_for=f"{_PHOTOGRAPHS}; on a laptop",
        size=39_000_000,
        licence="Apache-2.0",
        citation=_MOBILE_SAM,
        hash="md5:f3c0d8cda613564d499310dab6c812cd",
        address="https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
        mirrors=("https://github.com/Sanster/models/releases/download/MobileSAM/mobile_sam.pt",),
        file_name="mobile_sam.pt",
        suits="photograph",
    ),
    _sam(
        "b",
        "sam_vit_b_01ec64",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        375_042_383,
    ),
    _sam(
        "l",
        "sam_vit_l_0b3195",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        1_250_000_000,
        exact=False,
    ),
    _sam(
        "h",
        "sam_vit_h_4b8939",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        2_564_550_879,
    ),
    _hq_sam("b", "c6b8953247bcfdc8bb8ef91e36a6cacc", 379_000_000),
    _hq_sam("l", "08947267966e4264fb39523eccc33f86", 1_250_000_000),
    _hq_sam("h", "3560f6b6a5a6edacd814a1325c39640a", 2_570_000_000),
    _micro_sam(
        "vit_t_lm",
        _LIGHT,
        "faithful-chicken/1.1/files/vit_t.pt",
        "72ec5074774761a6e5c05a08942f981e",
    ),
    _micro_sam(
        "vit_t_em", _ELECTRON, "greedy-whale/1/files/vit_t.pt", "253474720c497cce605e57c9b1d18fd9"
    ),
    _micro_sam(
        "vit_b_lm",
        _LIGHT,
        "diplomatic-bug/1.2/files/vit_b.pt",
        "fe9252a29f3f4ea53c15a06de471e186",
    ),
    _micro_sam(
        "vit_l_lm", _LIGHT, "idealistic-rat/1.2/files/vit_l.pt", "017f20677997d628426dec80a8018f9d"
    ),
    _micro_sam(
        "vit_b_em", _ELECTRON, "noisy-ox/1.2/files/vit_b.pt", "f3bf2ed83d691456bae2c3f9a05fb438"
    ),
    _micro_sam(
        "vit_l_em",
        _ELECTRON,
        "humorous-crab/1.2/files/vit_l.pt",
        "810b084b6e51acdbf760a993d8619f2d",
    ),
    _micro_sam(
        "vit_b_histopathology", _TISSUE, "sBB4H8CTmIoBZsQ", "ffd1a2cd84570458b257bd95fdd8f974"
    ),
    _micro_sam(
        "vit_l_histopathology", _TISSUE, "IZgnn1cpBq2PHod", "b591833c89754271023e901281dee3f2"
    ),
    _micro_sam(
        "vit_h_histopathology", _TISSUE, "L7AcvVz7DoWJ2RZ", "bd1856dafc156a43fb3aa705f1a6e92e"
    ),
)

CATALOGUE: dict[str, CatalogueEntry] = {entry.name: entry for entry in _ENTRIES}
"""All models that are offered by name, the one inside the package first."""

EMBEDDED = next(entry.name for entry in _ENTRIES if entry.is_embedded)
"""Name of the model inside the package."""


def is_public(name: str) -> bool:
    """Whether a name is that of a model that can be downloaded."""
    return name in CATALOGUE and not CATALOGUE[name].is_embedded


def public_entry(name: str) -> CatalogueEntry:
    """Look up a model that can be downloaded.

    Raises
    ------
    ValueError
        If there is none of that name; the message lists those there are.
    """
    # Not above: docks read this file when they open, long before there is a network.
    from napari_pisam.model.variants import VARIANTS

    if is_public(name):
        return CATALOGUE[name]
    reason = "is not a model"
    if name in CATALOGUE:
        reason = "is inside the package: nothing is to be downloaded"
    elif name in VARIANTS:
        reason = "is not public: give the path of a checkpoint file instead"
    names = filter(is_public, CATALOGUE)
    msg = f"{name!r} {reason}. Models that can be downloaded: {', '.join(names)}."
    raise ValueError(msg)
