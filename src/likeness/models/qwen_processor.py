"""Questions with pictures as Qwen2-VL and Qwen2.5-VL read them, without the video processor of their own class.

transformers' ``Qwen2VLProcessor`` insists on a video processor, which insists on torchvision. Pictures need neither:
each ``<|image_pad|>`` of a text stands for (grid height x grid width) / merge_size^2 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

QWEN = ("qwen2_vl", "qwen2_5_vl")
_PLACE, _EXPANDED = "<|image_pad|>", "<|expanded_pad|>"


@dataclass
class QwenProcessor:
    """``pictures``: transformers' image processor; the two share the interface of a processor that has no videos."""

    tokenizer: Any
    pictures: Any

    @classmethod
    def load(cls, folder: Path) -> QwenProcessor:
        """From the tokenizer's and the image processor's files; OSError or ValueError when they are not there."""
        from transformers import AutoTokenizer, Qwen2VLImageProcessorPil

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return cls(tokenizer, Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True))

    @property
    def chat_template(self) -> str | None:
        """The tokenizer's."""
        template: str | None = self.tokenizer.chat_template
        return template

    def apply_chat_template(self, chat: Sequence[Any], **options: Any) -> Any:
        """As the tokenizer does it."""
        return self.tokenizer.apply_chat_template(chat, **options)

    def batch_decode(self, tokens: Any, **options: Any) -> list[str]:
        """As the tokenizer does it."""
        texts: list[str] = self.tokenizer.batch_decode(tokens, **options)
        return texts

    def __call__(
        self, text: Sequence[str], images: Sequence[Sequence[Image]], return_tensors: str, padding: bool
    ) -> Any:
        """Token and pixel tensors; ``images`` of each text in the order of its places."""
        flat = [image for own in images for image in own]
        seen = self.pictures(images=flat, return_tensors=return_tensors) if flat else {}
        merged = self.pictures.merge_size**2
        counts = iter([int(grid.prod()) // merged for grid in seen.get("image_grid_thw", ())])
        expanded = [self._expand(one, counts) for one in text]
        inputs = self.tokenizer(expanded, return_tensors=return_tensors, padding=padding)
        # The position of a picture's tokens is two-dimensional: the model asks which they are.
        place = self.tokenizer.convert_tokens_to_ids(_PLACE)
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == place).to(inputs["input_ids"].dtype)
        inputs.update(seen)
        return inputs

    def _expand(self, text: str, counts: Any) -> str:
        while _PLACE in text:
            text = text.replace(_PLACE, _EXPANDED * next(counts), 1)
        return text.replace(_EXPANDED, _PLACE)
