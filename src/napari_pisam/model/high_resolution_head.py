"""The high-resolution convolutional head and the RGB embedding (Pi-SAM, section 3.2).

Three plain stacks: ``output(upscaling(feature) + rgb_embedding(image))`` are the fine logits.
"""

from __future__ import annotations

from torch import nn

from napari_pisam.model.layer_norm import LayerNorm2d

RGB_WIDTH = 8


def build_upscaling(width: int) -> nn.Sequential:
    """Mask feature (B, width, S/4, S/4) -> (B, 8, S, S)."""
    return nn.Sequential(
        nn.ConvTranspose2d(width, 2 * RGB_WIDTH, kernel_size=2, stride=2),
        LayerNorm2d(2 * RGB_WIDTH),
        nn.GELU(),
        nn.ConvTranspose2d(2 * RGB_WIDTH, RGB_WIDTH, kernel_size=2, stride=2),
    )


def build_output(*, zero_init: bool) -> nn.Sequential:
    """Upscaled feature plus RGB embedding (B, 8, S, S) -> fine logits (B, 1, S, S).

    Parameters
    ----------
    zero_init
        Start the last layer at zero, so that the head adds nothing until it is trained.
    """
    last = nn.Conv2d(RGB_WIDTH, 1, 3, padding=1)
    if zero_init:
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
    return nn.Sequential(
        LayerNorm2d(RGB_WIDTH),
        nn.Conv2d(RGB_WIDTH, RGB_WIDTH, 3, padding=1),
        LayerNorm2d(RGB_WIDTH),
        nn.GELU(),
        last,
    )


def build_rgb_embedding() -> nn.Sequential:
    """Normalised padded image (N, 3, S, S) -> RGB embedding (N, 8, S, S).

    The published implementation keeps it inside the frozen encoder, where it is neither trained
    nor saved; here it is part of the trained model.
    """
    return nn.Sequential(nn.Conv2d(3, RGB_WIDTH, 1), nn.Conv2d(RGB_WIDTH, RGB_WIDTH, 3, padding=1))
