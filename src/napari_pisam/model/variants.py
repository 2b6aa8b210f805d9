"""The named variants: which encoder, which decoder, which switches."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

Kind = Literal["sam", "hqsam", "pisam"]
CoarseSource = Literal["hq", "sam", "sam+hq"]

Shapes: TypeAlias = "Mapping[str, tuple[int, ...]]"
"""Names of weights, as in `PiSam`'s state dict, and their shapes."""


BACKBONES = (
    "hgnetv2_b0",
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite1",
    "tf_efficientnet_lite2",
)
"""Backbones that a compact encoder may have: those that weights of ours were trained with."""

FIRST_BACKBONE, FIRST_FOCUS_FRAME = "hgnetv2_b0", 384
"""What the first weights were trained with, whose files do not say it."""


class Encoder(Protocol):
    """What an image encoder says of itself; a new one is a class like those below.

    Attributes
    ----------
    takes_any_frame : bool
        Whether one set of weights serves every frame, in multiples of ``frame_step`` px.
    frame_step : int
    early_stride : int
        Px of the frame per cell of the early feature: 16, or 4 as the mask feature has it.
    early_channels : int
        Channels of the early feature.
    is_pretrained_sam : bool
        Whether its weights are those of a SAM, trained on more than any user has: fine-tuning
        leaves them as they are, and what they say of an image is worth keeping.
    backbone : str or None
        Name of an exchangeable part that weights belong to; None without one.
    """

    @property
    def takes_any_frame(self) -> bool: ...  # noqa: D102

    @property
    def frame_step(self) -> int: ...  # noqa: D102

    @property
    def early_stride(self) -> int: ...  # noqa: D102

    @property
    def early_channels(self) -> int: ...  # noqa: D102

    @property
    def is_pretrained_sam(self) -> bool: ...  # noqa: D102

    @property
    def backbone(self) -> str | None: ...  # noqa: D102

    def with_backbone(self, backbone: str | None) -> Encoder:
        """Return it with the backbone that a file of weights names, or does not.

        Raises
        ------
        ValueError
            If it cannot have that backbone.
        """

    def fits(self, shapes: Shapes) -> bool:
        """Tell whether weights may be of this encoder, as far as they name one."""

    def describe(self) -> str:
        """Say what it is, in a few words."""

    def build(self, frame: int) -> nn.Module:
        """Build it with random weights.

        Its method ``forward_features`` gives of (N, 3, S, S) normalised, padded images the
        embedding (N, 256, S/16, S/16) and the early feature.
        """


class _SamEncoder:
    """What the encoders of SAMs have in common."""

    takes_any_frame: ClassVar[bool] = True
    frame_step: ClassVar[int] = 16
    early_stride: ClassVar[int] = 16
    is_pretrained_sam: ClassVar[bool] = True
    backbone: ClassVar[None] = None

    def with_backbone(self, backbone: str | None) -> Self:
        """Return it as it is: it has no exchangeable part."""
        return self


@dataclass(frozen=True)
class VitEncoder(_SamEncoder):
    """SAM's plain vision transformer (segment_anything's ``ImageEncoderViT``)."""

    embed_dim: int
    depth: int
    num_heads: int
    global_attn_indexes: tuple[int, ...]
    window_size: int = 14

    # Its position codes are those of one frame.
    takes_any_frame: ClassVar[bool] = False

    @property
    def early_channels(self) -> int:
        """Channels of the early feature (the first global-attention block's output)."""
        return self.embed_dim

    def fits(self, shapes: Shapes) -> bool:
        """Tell whether weights are of this encoder."""
        codes = shapes.get("image_encoder.pos_embed")
        return codes is not None and codes[-1] == self.embed_dim

    def describe(self) -> str:
        """Say what it is, in a few words."""
        return f"ViT, {self.depth} blocks of width {self.embed_dim}"

    def build(self, frame: int) -> nn.Module:
        """Build it with random weights."""
        from napari_pisam.model.image_encoder import build_vit_encoder

        return build_vit_encoder(**asdict(self), img_size=frame)


@dataclass(frozen=True)
class TinyVitEncoder(_SamEncoder):
    """MobileSAM's TinyViT: convolutions, then attention in windows; SAM's outputs.

    Its position biases are those of a window, whatever the frame.
    """

    widths: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (2, 4, 5, 10)
    windows: tuple[int, ...] = (7, 7, 14, 7)

    @property
    def early_channels(self) -> int:
        """Channels of the early feature (the first stage of a stride of 16 px)."""
        return self.widths[2]

    def fits(self, shapes: Shapes) -> bool:
        """Tell whether weights are of this encoder."""
        neck = shapes.get("image_encoder.neck.0.weight")
        has_codes = "image_encoder.pos_embed" in shapes  # of a ViT, whose neck has the same name
        return neck is not None and not has_codes and neck[1] == self.widths[-1]

    def describe(self) -> str:
        """Say what it is, in a few words."""
        return f"TinyViT, stages of width {', '.join(map(str, self.widths))}"

    def build(self, frame: int) -> nn.Module:
        """Build it with random weights, for any frame."""
        from napari_pisam.model.tiny_vit_encoder import TinyVitImageEncoder

        return TinyVitImageEncoder(**asdict(self))


@dataclass(frozen=True)
class CompactEncoder:
    """A timm convolutional backbone with a feature pyramid, for the embedded model."""

    backbone: str
    early_channels: int = 64
    neck_channels: int = 128

    takes_any_frame: ClassVar[bool] = True
    frame_step: ClassVar[int] = 32
    early_stride: ClassVar[int] = 4
    is_pretrained_sam: ClassVar[bool] = False

    def with_backbone(self, backbone: str | None) -> CompactEncoder:
        """Return it with another backbone; without a name with that of the first weights.

        Raises
        ------
        ValueError
            If it is none of those that weights of ours were trained with.
        """
        backbone = backbone or FIRST_BACKBONE
        if backbone not in BACKBONES:
            raise ValueError(f"the backbone {backbone!r}; expected one of: {', '.join(BACKBONES)}")
        return replace(self, backbone=backbone)

    def fits(self, shapes: Shapes) -> bool:
        """Tell whether weights are of this encoder."""
        return "image_encoder.lateral32.0.weight" in shapes

    def describe(self) -> str:
        """Say what it is, in a few words."""
        return self.backbone

    def build(self, frame: int) -> nn.Module:
        """Build it with random weights, for any frame."""
        from napari_pisam.model.compact_encoder import CompactImageEncoder

        return CompactImageEncoder(**asdict(self))


@dataclass(frozen=True)
class Focus:
    """How a network that was trained on crops around objects looks at one.

    Parameters
    ----------
    factor
        Side of the window that is read around a box, by the box's longer side.
    frame
        Largest frame that a window is shown in, px; a larger object is reduced to it. Beyond what
        it was trained with, a network gets worse, not sharper.
    click_window
        Side of the window around clicks without a box, px of the image.
    """

    factor: float = 2.2
    frame: int = 384
    click_window: int = 512


@dataclass(frozen=True)
class Variant:
    """One model that can be built.

    Parameters
    ----------
    name
        What users type, e.g. ``"tiny"`` or ``"pisam_vit_h"``.
    kind
        ``"sam"``: SAM's decoder only; ``"hqsam"``: with HQ-SAM's branch; ``"pisam"``: with
        Pi-SAM's high-resolution modules and interactor too.
    encoder
        Which image encoder.
    frame
        Side of the square frame that the network sees, px; a multiple of the encoder's step.
    coarse_source
        What the S/4 logits of a ``pisam`` kind are: ``"hq"`` the HQ token's mask (the published
        network), ``"sam"`` SAM's single mask, ``"sam+hq"`` HQ-SAM's own sum of both.
    residual
        Add the upsampled coarse logits to the high-resolution head, whose last layer then starts
        at zero: an untrained ``pisam`` gives its base's own mask. Off for published checkpoints.
    click_maps
        Also draw the clicks into the interactor's input as small Gaussian spots. Not in the
        published network; it makes a compact model obey a click at the pixel.
    local_clicks
        A click changes the mask where it was made and is followed there, one after another.
        Published weights are left to say what they say.
    box_maps
        Also give a box to the prompt encoder as a filled mask, where there is no mask prompt, and
        let the coarse logits start from it. Not in the published network; a model trained from
        scratch need not learn first what the position codes of two corners mean.
    appearance_prior
        Also give the decoder how likely each pixel's colour and texture are inside the box rather
        than outside. Not in the published network; it tells a small network what the image at
        hand looks like.
    fine_answer
        Give two answers to a prompt: what is solid in the box, and what is fine in it (thin lines,
        many small pieces), each with an estimate of its IoU. Not in the published network, whose
        only answer to a box that holds both is neither: a disc that vessels cross, a layer with
        cracks. A click may tell which is meant.
    click_order
        Order in which clicks enter the interactor. The published weights were trained with
        (row, col) used as (x, y), so a published checkpoint may want ``"rc"``.
    focus
        How to look at one object, where the network was trained on crops around objects;
        ``None``: the whole frame, as for SAM.
    score_curve
        What scores were worth with these weights, see `predict.scores.score`.
    fine_score_curve
        The same for the fine one of two answers; `score_curve` where there is none.
    """

    name: str
    kind: Kind
    encoder: Encoder
    frame: int = 1024
    coarse_source: CoarseSource = "hq"
    residual: bool = False
    click_maps: bool = False
    local_clicks: bool = False
    box_maps: bool = False
    appearance_prior: bool = False
    fine_answer: bool = False
    click_order: Literal["xy", "rc"] = "xy"
    focus: Focus | None = None
    score_curve: tuple[tuple[float, float], ...] = ()
    fine_score_curve: tuple[tuple[float, float], ...] = ()

    @property
    def has_interactor(self) -> bool:
        """Whether it has Pi-SAM's modules: a high-resolution head, and an interactor for clicks."""
        return self.kind == "pisam"

    def describe(self) -> str:
        """Say what it is, in a few words."""
        return f"{self.name} ({self.kind}), {self.encoder.describe()}"


_VITS: dict[str, Encoder] = {
    "t": TinyVitEncoder(),
    "b": VitEncoder(768, 12, 12, (2, 5, 8, 11)),
    "l": VitEncoder(1024, 24, 16, (5, 11, 17, 23)),
    "h": VitEncoder(1280, 32, 16, (7, 15, 23, 31)),
}


def _all_variants() -> dict[str, Variant]:
    kinds: tuple[Kind, ...] = ("sam", "hqsam", "pisam")
    tiny = Variant(
        "tiny",
        "pisam",
        CompactEncoder("tf_efficientnet_lite0"),
        residual=True,
        click_maps=True,
        local_clicks=True,
        box_maps=True,
        appearance_prior=True,
        fine_answer=True,
        focus=Focus(frame=512),
    )
    vits = [
        Variant(f"{kind}_vit_{size}", kind, vit, residual=kind == "pisam")
        for kind in kinds
        for size, vit in _VITS.items()
    ]
    return {variant.name: variant for variant in (tiny, *vits)}


VARIANTS: dict[str, Variant] = _all_variants()


def get_variant(name: str) -> Variant:
    """Look a variant up by its name.

    Raises
    ------
    ValueError
        If there is no such variant; the message lists those there are.
    """
    try:
        return VARIANTS[name]
    except KeyError:
        msg = f"There is no variant {name!r}. Choose one of: {', '.join(VARIANTS)}."
        raise ValueError(msg) from None


# Weights that a kind has and those named after it lack.
_MARKS: dict[Kind, str] = {
    "pisam": "mask_decoder.mask_aspp.conv_out.0.weight",
    "hqsam": "mask_decoder.hf_token.weight",
    "sam": "mask_decoder.mask_tokens.weight",
}


def variant_of_weights(shapes: Shapes) -> Variant | None:
    """Find the variant that weights are of; those of a decoder alone say what encoder it reads."""
    kind = next((kind for kind, name in _MARKS.items() if name in shapes), None)
    reads = shapes.get("mask_decoder.compress_vit_feat.0.weight", (0,))[0]
    has_encoder = any(name.startswith("image_encoder.") for name in shapes)
    for variant in VARIANTS.values():
        encoder = variant.encoder
        fits = encoder.fits(shapes) if has_encoder else encoder.early_channels == reads
        if variant.kind == kind and fits:
            return variant
    return None
