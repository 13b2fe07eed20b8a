"""Cutting a decode: nothing cut is nothing changed, and a face's cells are where its key points say."""

from __future__ import annotations

from pathlib import Path

import torch
from crop_decode import Box, decode, face_box, norms

from likeness.models.faces.align import template
from likeness.models.generator import load_pipeline


def test_cells_under_a_face_by_hand() -> None:
    """Key points at the template, moved: the aligned crop is 112 pixels from there on, in cells of 4."""
    assert face_box(template(112) + 1, 112, 64) == Box(0, 29, 0, 29)
    assert face_box(template(112) + 42, 112, 64) == Box(10, 39, 10, 39)
    assert face_box(template(112) + 42, 112, 64).wider(12, 40) == Box(0, 40, 0, 40)


def test_a_cut_of_everything_is_the_whole_decode(sd15_folder: Path) -> None:
    vae = load_pipeline(sd15_folder).vae
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    whole, everything = Box(0, 16, 0, 16), vae.decode(latents).sample
    known: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    with norms(vae.decoder, known, frozen=False):
        assert torch.equal(decode(vae, latents), everything)
    for late in (False, True):
        assert torch.equal(decode(vae, latents, whole, late=late), everything)
        with norms(vae.decoder, known, frozen=True):
            torch.testing.assert_close(decode(vae, latents, whole, late=late), everything, atol=1e-5, rtol=1e-4)


def test_a_cut_with_the_whole_decodes_statistics_is_right_away_from_its_edges(sd15_folder: Path) -> None:
    """Cut behind the middle block, only convolutions near the edge miss their neighbours."""
    vae = load_pipeline(sd15_folder).vae
    latents = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    known: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    with norms(vae.decoder, known, frozen=False):
        everything = decode(vae, latents)
    box = Box(4, 28, 4, 28)
    with norms(vae.decoder, known, frozen=True):
        cut = decode(vae, latents, box, late=True)
    middle = slice(40, 56)
    expected = everything[..., 16 + 40 : 16 + 56, 16 + 40 : 16 + 56]
    torch.testing.assert_close(cut[..., middle, middle], expected, atol=1e-4, rtol=1e-3)
    assert (cut[..., :2, :] - everything[..., 16:18, 16:112]).abs().max() > 1e-2
