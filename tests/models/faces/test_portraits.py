"""The same code on the cartoon domain: 64 pixel portraits, and the detector and recognisers trained on them."""

from pathlib import Path

import pytest
import torch

from likeness.models.embedded.portraits import draw, persons, render
from likeness.models.faces.embedder import FaceEmbedder
from likeness.models.faces.pack import detect, load_pack

_PORTRAIT_PACKS = Path(__file__).parents[3] / "assets" / "embedded" / "faces" / "models"


@pytest.mark.skipif(not _PORTRAIT_PACKS.is_dir(), reason="the embedded assets are not there")
@pytest.mark.parametrize("name", ["portraits", "portraits-judge"])
def test_portrait_packs_equal_insightface(name):
    app, embedder = load_pack(_PORTRAIT_PACKS / name, 64), FaceEmbedder.from_pack(_PORTRAIT_PACKS / name)
    compared = 0
    for portrait in draw(8, 0, persons()):
        picture = render(portrait).copy()
        image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        for face in detect(app, picture)[:1]:
            ours = embedder.embed(image, torch.from_numpy(face.kps)[None])[0]
            assert float(ours @ torch.from_numpy(face.normed_embedding)) >= 0.999, name
            compared += 1
    assert compared >= 7
