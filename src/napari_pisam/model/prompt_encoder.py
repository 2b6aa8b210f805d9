"""SAM's prompt encoder, for which no device has to wait."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_pisam.model.sam_modules import PromptEncoder as _SamPromptEncoder


class PromptEncoder(_SamPromptEncoder):  # type: ignore[misc]
    """The same weights, keys and numbers.

    SAM's own picks the clicks of each label out, and has to ask the device how many there are.
    """

    def _embed_points(self, points: Tensor, labels: Tensor, pad: bool) -> Tensor:
        if pad:
            points = torch.cat([points, points.new_full((len(points), 1, 2), -0.5)], dim=1)
            labels = torch.cat([labels, labels.new_full((len(labels), 1), -1)], dim=1)
        codes: Tensor = self.pe_layer.forward_with_coords(points + 0.5, self.input_image_size)
        label = labels.unsqueeze(-1)
        background, foreground = (codes + self.point_embeddings[i].weight for i in (0, 1))
        known = torch.where(label == 1, foreground, torch.where(label == 0, background, codes))
        return torch.where(label == -1, self.not_a_point_embed.weight, known)
