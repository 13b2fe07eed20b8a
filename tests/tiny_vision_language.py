"""A random LLaVA that reads bytes: the class, the processor and the chat template of the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
SPECIAL = ("<pad>", "<s>", "</s>", "<image>")


def byte_tokenizer(special: Sequence[str], **named: str) -> PreTrainedTokenizerFast:
    """A token for each byte, and the ``special`` ones."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_ = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate([*letters, *special])}, merges=[]))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    others = [token for token in special if token not in named.values()]
    return PreTrainedTokenizerFast(tokenizer_object=bytes_, additional_special_tokens=others, **named)


def tiny_llava(folder: Path) -> Path:
    """Save it into ``folder``: two layers of width 32, pictures of 32 pixels, a token for each byte."""
    tokenizer = byte_tokenizer(SPECIAL, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    vocabulary = tokenizer.get_vocab()
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        image_token="<image>",
        num_additional_image_tokens=1,
    )
    width = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**width, image_size=32, patch_size=8),
        text_config=LlamaConfig(
            **width,
            vocab_size=len(tokenizer),
            max_position_embeddings=4096,
            bos_token_id=vocabulary["<s>"],
            eos_token_id=vocabulary["</s>"],
            pad_token_id=vocabulary["<pad>"],
        ),
        image_token_index=vocabulary["<image>"],
        vision_feature_layer=-1,
    )
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
