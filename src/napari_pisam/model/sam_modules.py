"""SAM's own modules. Whoever imports them here first keeps two native libraries apart.

Importing them imports torchvision, and that triton: `isolate_triton` must be called then, and not
when this package is imported. A dock imports names of models long before, when no viewer has drawn
anything yet and there is nothing to be seen of a clash.
"""

from napari_pisam.model.native_libraries import isolate_triton

isolate_triton()

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
