"""Planted tables of scores: a good model, and bad ones that each break one rule."""

from __future__ import annotations

from typing import Any

import numpy as np

PHOTOS = {
    "darkness_photos": 0.15,
    "saturation_photos": 0.35,
    "edge_density_photos": 0.2,
    "colour_entropy_photos": 3.0,
    "copy_paste_photos": 0.6,
    "diversity_across_photos": 0.4,
}
BASE = {
    "identity": 0.2,
    "face_detected": 0.98,
    "prompt_fidelity": 0.8,
    "text_similarity": 0.3,
    "aesthetic": 0.0,
    "structure": 1.0,
    "diversity": 0.5,
    "diversity_across": 0.5,
    "copy_paste": 0.5,
    "darkness": 0.16,
    "saturation": 0.36,
    "edge_density": 0.21,
    "colour_entropy": 3.1,
}
GOOD = {**BASE, "identity": 0.35, "aesthetic": 0.2, "diversity_across": 0.42, "copy_paste": 0.58, "diversity": 0.2}
BAD = {
    "identity_superiority": {"identity": 0.19},
    "prompt_fidelity_non_inferiority": {"prompt_fidelity": 0.72},
    "face_detected_non_inferiority": {"face_detected": 0.85},
    "aesthetic_win_rate_non_inferiority": {"aesthetic": -0.6},
    "diversity_across_anchored": {"diversity_across": 0.1},
    "darkness_anchored": {"darkness": 0.5},
    "saturation_anchored": {"saturation": 0.8},
    "edge_density_anchored": {"edge_density": 0.08},
    "colour_entropy_anchored": {"colour_entropy": 1.4},
    "copy_paste_anchored": {"copy_paste": 0.9},
}
_NOISE = {"aesthetic": 0.5, "identity": 0.1, "prompt_fidelity": 0.03, "face_detected": 0.0}


def rows(candidate: dict[str, float], *, prompts: int = 48, seeds: int = 2, seed: int = 0) -> list[dict[str, Any]]:
    """Scores around the given means; base and candidate share each prompt's own level."""
    rng = np.random.default_rng(seed)
    out = []
    shared = {name: rng.normal(0, _NOISE.get(name, 0.02), (prompts, seeds)) for name in BASE}
    for variant, means in (("base", BASE), ("candidate", candidate)):
        for i in range(prompts):
            for k in range(seeds):
                noise = {n: shared[n][i, k] + rng.normal(0, _NOISE.get(n, 0.02) / 3) for n in BASE}
                scores = {name: float(mean + noise[name]) for name, mean in means.items()}
                about = {"variant": variant, "prompt_index": i, "seed_index": k, "prompt": f"p{i}", "subject": "s"}
                about["named"] = "clothing|expression" if i % 2 else "clothing|background"
                out.append(about | scores | PHOTOS)
    return out
