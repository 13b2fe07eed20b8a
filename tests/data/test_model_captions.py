"""Captioners that are models, on tiny random models of the published classes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, Qwen2VLImageProcessorPil, Qwen2VLProcessor

from likeness.core.errors import ConfigError, InputError
from likeness.core.step import execute
from likeness.data.captions import CAPTIONERS, Caption, CaptionOptions
from likeness.data.images import encode_png
from likeness.data.model_captions import subject_caption
from likeness.data.shards import read_rows, write_shards
from likeness.models.captioning import PromptedCaptioner
from likeness.models.qwen_processor import QwenProcessor
from likeness.models.vision_language import Question, VisionLanguageModel
from likeness.steps.caption import SPEC, CaptionConfig
from tiny_captioners import tiny_blip, tiny_florence2, tiny_qwen
from tiny_vision_language import tiny_llava

BUILD: dict[str, Callable[[Path], Path]] = {
    "blip": tiny_blip,
    "florence2": tiny_florence2,
    "qwen_vl": tiny_qwen,
    "qwen_vl newer": lambda folder: tiny_qwen(folder, newer=True),
    "llava": tiny_llava,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: build(tmp_path_factory.mktemp("models") / name) for name, build in BUILD.items()}


def pictures(count: int) -> list[np.ndarray]:
    return [
        np.random.default_rng(i).integers(0, 256, (32 + 8 * i, 40, 3), dtype=np.uint8, endpoint=False)
        for i in range(count)
    ]


def rows(count: int) -> list[dict]:
    return [
        {"id": f"{i:016x}", "file_name": f"{i}.png", "person": f"p{i}", "image": encode_png(pixels)}
        for i, pixels in enumerate(pictures(count))
    ]


@pytest.mark.parametrize("name", BUILD)
def test_every_class_writes_the_same_for_a_seed_and_other_words_for_another(
    name: str, folders: dict[str, Path]
) -> None:
    captioner = name.partition(" ")[0]

    def write(seed: int) -> list:
        options = CaptionOptions(seed=seed, temperature=1.0, max_new_tokens=12, model_batch=2)
        return CAPTIONERS.get(captioner)(options, folders[name])(rows(3))

    first = write(0)
    assert first == write(0)
    assert first != write(1)
    written = [one for one in first if isinstance(one, Caption)]
    assert len(written) >= 2
    assert all(one.subject.count("{token}") == 1 for one in written)


def test_the_likeliest_words_do_not_depend_on_a_picture_s_company(folders: dict[str, Path]) -> None:
    def write(batch: int) -> list:
        options = CaptionOptions(max_new_tokens=6, model_batch=batch)
        return CAPTIONERS.get("blip")(options, folders["blip"])(rows(4))

    assert write(1) == write(4)


def test_blip_and_florence_write_what_a_plain_greedy_loop_writes(folders: dict[str, Path]) -> None:
    """The models' own forward, one token at a time, against generate."""
    blip = PromptedCaptioner.load(folders["blip"], 2)
    written = blip.write(pictures(2), "a photo of", max_new_tokens=5)
    for picture, text in zip(pictures(2), written, strict=True):
        inputs = blip.processor(images=Image.fromarray(picture), text="a photo of", return_tensors="pt")
        seen = blip.model.vision_model(inputs["pixel_values"])[0]
        tokens = inputs["input_ids"][:, :-1]  # BLIP goes on from the words, without their closing token
        tokens[:, 0] = blip.model.config.text_config.bos_token_id
        for _ in range(5):
            logits = blip.model.text_decoder(input_ids=tokens, encoder_hidden_states=seen).logits
            tokens = torch.cat([tokens, logits[:, -1:].argmax(-1)], dim=1)
            if tokens[0, -1] == blip.model.config.text_config.eos_token_id:
                break
        assert blip.processor.decode(tokens[0], skip_special_tokens=True) == text


def test_qwen_s_questions_are_those_of_transformers_own_processor(folders: dict[str, Path]) -> None:
    """``Qwen2VLProcessor`` asks for torchvision's videos; past that check it gives the same tensors."""

    class WithoutVideos(Qwen2VLProcessor):
        def check_argument_for_proper_class(self, argument_name: str, argument: object) -> type:
            return type(argument)

    folder = folders["qwen_vl"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "left"
    theirs = WithoutVideos(
        Qwen2VLImageProcessorPil.from_pretrained(folder), tokenizer, object(), chat_template=tokenizer.chat_template
    )
    ours = QwenProcessor.load(folder)
    ours.tokenizer.padding_side = "left"
    images = [[Image.fromarray(picture) for picture in pictures(2)], [Image.fromarray(pictures(3)[2])]]
    chats = [
        [{"role": "user", "content": [*({"type": "image"} for _ in own), {"type": "text", "text": "who?"}]}]
        for own in images
    ]
    texts = [ours.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    mine = ours(text=texts, images=images, return_tensors="pt", padding=True)
    expected = theirs(text=texts, images=images, return_tensors="pt", padding=True)
    assert set(mine) == set(expected)
    assert all(torch.equal(mine[name], expected[name]) for name in expected)
    assert int(mine["mm_token_type_ids"].sum()) == int(sum(grid.prod() // 4 for grid in mine["image_grid_thw"]))


def test_what_qwen_answers_depends_on_the_picture(folders: dict[str, Path]) -> None:
    model = VisionLanguageModel.load(folders["qwen_vl newer"])
    dark, bright = (Question((np.full((32, 32, 3), value, np.uint8),), "who?") for value in (0, 255))
    apart = model.log_probability([dark, bright], ["a cat", "a cat"])
    assert apart[0] != apart[1]


SUBJECTS = {
    "a young woman with long red hair in a park": "a photo of {token} woman in a park",
    "A man wearing a hat and a beard": "a photo of {token} man wearing a hat",
    "a photo of a person smiling, in a garden": "a photo of {token} person smiling, in a garden",
    "the image shows a man with blue eyes and a grey beard on a bench": "the image shows {token} man on a bench",
    "a woman with a red umbrella and long, brown hair": "a photo of {token} woman with a red umbrella",
    "an oil painting of an old man": "an oil painting of {token} man",
    "smiling in front of a brick wall": "a photo of {token} person, smiling in front of a brick wall",
}


def test_a_subject_s_words_say_what_varies_and_not_who_it_is() -> None:
    assert {text: subject_caption(text) for text in SUBJECTS} == SUBJECTS


def test_a_model_of_another_class_or_none_is_refused_with_what_to_set(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="captioner_model"):
        CAPTIONERS.get("blip")(CaptionOptions(), None)
    with pytest.raises(InputError, match="set captioner: qwen_vl"):
        CAPTIONERS.get("blip")(CaptionOptions(), folders["qwen_vl newer"])


def test_weights_that_would_be_unpickled_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["blip"], tmp_path / "blip")
    (tmp_path / "blip/model.safetensors").unlink()
    torch.save({}, tmp_path / "blip/pytorch_model.bin")
    with pytest.raises(InputError, match="does not load"):
        CAPTIONERS.get("blip")(CaptionOptions(), tmp_path / "blip")


def test_the_step_captions_with_a_model_and_replaces_what_fails(folders: dict[str, Path], tmp_path: Path) -> None:
    """BLIP's own words where they pass; the fixed ones, counted by rule, where they say what is forbidden."""
    write_shards(tmp_path / "kept", rows(6))
    inputs = {"kept": tmp_path / "kept", "captioner_model": folders["blip"]}
    values = {"captioner": "blip", "temperature": 1.0, "max_new_tokens": 8, "failing": "replace"}

    def captions(name: str, forbidden: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
        outputs = {port: tmp_path / name / port for port in SPEC.outputs}
        metrics = execute(SPEC, CaptionConfig(**values, forbidden_words=forbidden), inputs, outputs)
        return metrics, [row["caption"] for row in read_rows(outputs["captioned"])]

    _, free = captions("free", ())
    said = [set(text.split()) for text in free]
    # A random model says what it likes: some word that some captions hold and others do not.
    word = next(word for word in sorted(set().union(*said)) if word.isalpha() and sum(word in one for one in said) < 6)
    metrics, strict = captions("strict", (word,))
    broken = [number for number, one in enumerate(said) if word in one]
    assert metrics["replaced_forbidden_word"] == metrics["replaced"] == len(broken) > 0
    for number, (before, after) in enumerate(zip(free, strict, strict=True)):
        assert after == ("a photo of a person" if number in broken else before)
