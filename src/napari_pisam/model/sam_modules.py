"""SAM's own modules; `import_apart` says why they are imported here alone."""

from napari_pisam.model.native_libraries import import_apart

import_apart("segment_anything")

from segment_anything.modeling import ImageEncoderViT  # noqa: E402
from segment_anything.modeling.common import LayerNorm2d  # noqa: E402
from segment_anything.modeling.image_encoder import get_rel_pos  # noqa: E402
from segment_anything.modeling.mask_decoder import MLP, MaskDecoder  # noqa: E402
from segment_anything.modeling.prompt_encoder import (  # noqa: E402
    PositionEmbeddingRandom,
    PromptEncoder,
)
from segment_anything.modeling.transformer import Attention, TwoWayTransformer  # noqa: E402

__all__ = [
    "MLP",
    "Attention",
    "ImageEncoderViT",
    "LayerNorm2d",
    "MaskDecoder",
    "PositionEmbeddingRandom",
    "PromptEncoder",
    "TwoWayTransformer",
    "get_rel_pos",
]
