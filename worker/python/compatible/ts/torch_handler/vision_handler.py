"""`ts.torch_handler.vision_handler`: pictures become tensors."""

from __future__ import annotations

import base64
import io
from abc import ABC

import torch
from PIL import Image

from ts.torch_handler.base_handler import BaseHandler


class VisionHandler(BaseHandler, ABC):
    """Takes pictures, in base64 too, or numbers; `image_processing` makes a tensor of each."""

    def preprocess(self, data):
        images = []
        for row in data:
            image = row.get("data") or row.get("body")
            if isinstance(image, str):
                image = base64.b64decode(image)
            if isinstance(image, (bytes, bytearray)):
                image = self.image_processing(Image.open(io.BytesIO(image)))
            else:
                image = torch.FloatTensor(image)
            images.append(image)
        return torch.stack(images).to(self.device)
