"""A vision-language model that answers about pictures: any folder that transformers' image-text-to-text classes open.

Tested on tiny random models of LLaVA, Qwen2-VL and Qwen2.5-VL. LLaVA-OneVision's video processor asks for torchvision,
which this project's environment leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.errors import InputError
from likeness.core.io import digest_path, read_json
from likeness.models.runtime import home, quiet_loading

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

_REMEDY = "point the port at a folder with config.json, model.safetensors, tokenizer and processor files"


@dataclass(frozen=True)
class Question:
    """``pictures``, (H, W, 3) uint8 RGB each, shown before ``text``."""

    pictures: tuple[np.ndarray, ...]
    text: str


def model_type(folder: Path) -> str:
    """What transformers calls the model in ``folder``, such as ``blip``.

    Raises:
        InputError: the folder has no config.json, or it names no type.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is not a vision-language model: it has no config.json", remedy=_REMEDY)
    return str(read_json(folder / "config.json").get("model_type"))


def load_image_text_model(folder: Path) -> tuple[Any, Any]:
    """Model and processor of a folder that ``save_pretrained`` wrote: safetensors only, frozen, at home.

    Raises:
        InputError: the folder is no such model.
    """
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from likeness.models.qwen_processor import QWEN, QwenProcessor

    kind = model_type(folder)
    dtype = torch.float32 if home().type == "cpu" else torch.bfloat16
    try:
        with quiet_loading():
            model = AutoModelForImageTextToText.from_pretrained(
                folder, use_safetensors=True, dtype=dtype, local_files_only=True
            )
            processor: Any = (
                QwenProcessor.load(folder)
                if kind in QWEN
                else AutoProcessor.from_pretrained(folder, local_files_only=True)
            )
    except (OSError, ValueError, ImportError, KeyError, AttributeError) as error:
        raise InputError(f"{folder} does not load as a vision-language model: {error}", remedy=_REMEDY) from error
    return model.eval().requires_grad_(False).to(home()), processor


@dataclass(frozen=True)
class VisionLanguageModel:
    """Frozen. ``batch``: questions at a time; the last bits of an answer's probability depend on its company."""

    model: Any
    processor: Any
    digest: str
    batch: int = 4

    @classmethod
    def load(cls, folder: Path, batch: int = 4) -> VisionLanguageModel:
        """Load a folder as :func:`load_image_text_model` does.

        Raises:
            InputError: the folder is no such model, or its processor lacks a chat template.
        """
        model, processor = load_image_text_model(folder)
        if getattr(processor, "chat_template", None) is None:
            raise InputError(f"the processor at {folder} has no chat template", remedy="save it with its template")
        processor.tokenizer.padding_side = "left"  # answers begin where questions end
        return cls(model, processor, digest_path(folder), batch)

    def write(
        self, questions: Sequence[Question], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """An answer to each question: the likeliest words, or drawn at ``temperature`` with ``seed``."""
        import torch

        drawn = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        answers: list[str] = []
        for part in self._parts(questions):
            inputs = self._inputs(part, [""] * len(part))
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(seed + len(answers))
                tokens = self.model.generate(**inputs, max_new_tokens=max_new_tokens, **drawn)
            new = tokens[:, inputs["input_ids"].shape[1] :]
            answers += [text.strip() for text in self.processor.batch_decode(new, skip_special_tokens=True)]
        return answers

    def log_probability(self, questions: Sequence[Question], answers: Sequence[str]) -> Tensor:
        """(B,) float32: log probability of each answer's tokens, given its question."""
        import torch

        found = []
        for start, part in zip(range(0, len(questions), self.batch), self._parts(questions), strict=True):
            texts = answers[start : start + len(part)]
            inputs = self._inputs(part, texts)
            lengths = [len(self.processor.tokenizer(text, add_special_tokens=False).input_ids) for text in texts]
            with torch.no_grad():
                logits = self.model(**inputs).logits.float()
            scores = logits[:, :-1].log_softmax(dim=-1)
            picked = scores.gather(2, inputs["input_ids"][:, 1:, None]).squeeze(2)
            picked = picked.cpu()
            found += [row[len(row) - length :].sum() for row, length in zip(picked, lengths, strict=True)]
        return torch.stack(found)

    def _parts(self, questions: Sequence[Question]) -> Iterator[Sequence[Question]]:
        return (questions[start : start + self.batch] for start in range(0, len(questions), self.batch))

    def _inputs(self, questions: Sequence[Question], answers: Sequence[str]) -> Any:
        """Token and pixel tensors of questions, each continued by the beginning of its answer."""
        from PIL import Image

        texts = []
        for question, answer in zip(questions, answers, strict=True):
            content = [*({"type": "image"} for _ in question.pictures), {"type": "text", "text": question.text}]
            chat = [{"role": "user", "content": content}]
            texts.append(self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) + answer)
        pictures = [[Image.fromarray(picture) for picture in question.pictures] for question in questions]
        inputs = self.processor(text=texts, images=pictures, return_tensors="pt", padding=True)
        return inputs.to(self.model.device)
