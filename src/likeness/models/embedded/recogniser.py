"""Train the two recognisers of the portrait domain: A rewards, B judges.

They share no architecture, no loss and no person: A is a plain convolutional net with a CosFace head
(Wang et al., 1801.09414), B a depthwise-separable net trained with the supervised contrastive loss
(Khosla et al., 2004.11362) on other people. Both take insightface's aligned crop: (B, 3, 112, 112), RGB in [-1, 1].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from likeness.core.config import Config
from likeness.models.embedded.augment import aligned_crops, batch_of, jitter
from likeness.models.embedded.fit import FitConfig, fit

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from likeness.models.embedded.corpus import Corpus

EMBEDDING_DIM = 128


class RecogniserConfig(Config):
    """``kind`` picks architecture and loss."""

    kind: Literal["reward", "judge"]
    seed: int = 0
    batch: int = 96
    fit: FitConfig = FitConfig(steps=1000, learning_rate=2e-3, weight_decay=1e-4)


def build_recogniser(kind: Literal["reward", "judge"]) -> nn.Module:
    """An untrained recogniser: (B, 3, 112, 112) in [-1, 1] to (B, 128), not normalised."""
    from torch import nn

    def block(inside: int, outside: int, stride: int) -> list[nn.Module]:
        conv = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        return [conv, nn.BatchNorm2d(outside), nn.PReLU(outside)]

    def separable(inside: int, outside: int, stride: int) -> list[nn.Module]:
        depthwise = nn.Conv2d(inside, inside, 5, stride, 2, groups=inside, bias=False)
        pointwise = nn.Conv2d(inside, outside, 1, bias=False)
        return [depthwise, nn.BatchNorm2d(inside), nn.ReLU(), pointwise, nn.BatchNorm2d(outside), nn.ReLU()]

    stem = [nn.AvgPool2d(2)]
    if kind == "reward":
        body = block(3, 24, 2) + block(24, 48, 2) + block(48, 96, 2) + block(96, 128, 1)
        return nn.Sequential(*stem, *body, nn.Flatten(), nn.Linear(128 * 7 * 7, EMBEDDING_DIM, bias=False))
    body = [nn.Conv2d(3, 32, 4, 4), nn.ReLU(), *separable(32, 64, 1), *separable(64, 128, 2), *separable(128, 192, 1)]
    return nn.Sequential(*stem, *body, nn.AvgPool2d(3, 2), nn.Flatten(), nn.Linear(192 * 9, EMBEDDING_DIM))


def cosface_loss(
    embeddings: Tensor, classes: Tensor, people: Tensor, scale: float = 24.0, margin: float = 0.25
) -> Tensor:
    """CosFace, eq. 4. ``embeddings``: (B, D); ``classes``: (P, D) person vectors; ``people``: (B,) indices."""
    import torch.nn.functional as F

    cosine = F.normalize(embeddings) @ F.normalize(classes).T
    return F.cross_entropy(scale * (cosine - margin * F.one_hot(people, len(classes))), people)


def contrastive_loss(embeddings: Tensor, people: Tensor, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive, eq. 2: every other picture of the same person in the batch is a positive."""
    import torch
    import torch.nn.functional as F

    unit = F.normalize(embeddings)
    self_mask = torch.eye(len(unit), dtype=torch.bool)
    logits = (unit @ unit.T / temperature).masked_fill(self_mask, float("-inf"))
    log_probability = logits - logits.logsumexp(1, keepdim=True)
    positive = (people[:, None] == people[None]) & ~self_mask
    return -(log_probability.masked_fill(~positive, 0).sum(1) / positive.sum(1).clamp(min=1)).mean()


def _pairs(ids: np.ndarray, batch: int, rng: np.random.Generator) -> np.ndarray:
    """(batch,) indices: half a batch of people, two pictures of each."""
    import numpy as np

    people = rng.choice(ids.max() + 1, size=batch // 2, replace=False)
    order = np.argsort(ids, kind="stable")
    start, end = np.searchsorted(ids[order], people), np.searchsorted(ids[order], people, side="right")
    draws = [order[rng.integers(s, e, size=2)] for s, e in zip(start, end, strict=True)]
    return np.concatenate(draws)


def train_recogniser(config: RecogniserConfig, corpus: Corpus) -> nn.Module:
    """Train on ``corpus``; returns the network in eval mode."""
    import numpy as np
    import torch

    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    ids = corpus.person_ids()
    model: nn.Module = build_recogniser(config.kind).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    head = torch.nn.Linear(EMBEDDING_DIM, int(ids.max()) + 1, bias=False)

    def loss_at(step: int) -> Tensor:
        judge = config.kind == "judge"
        index = _pairs(ids, config.batch, rng) if judge else rng.integers(len(corpus), size=config.batch)
        crops = aligned_crops(jitter(batch_of(corpus, index), rng, 1.3 if judge else 1.0)) * 2 - 1
        embeddings = model(crops)
        people = torch.from_numpy(ids[index])
        return contrastive_loss(embeddings, people) if judge else cosface_loss(embeddings, head.weight, people)

    modules = [model] if config.kind == "judge" else [model, head]
    fit(modules, loss_at, config.fit, f"recogniser {config.kind}")
    return model


def verification(model: nn.Module, corpus: Corpus, pairs: int = 4000) -> dict[str, float]:
    """AUC on random pairs, AUC on hard impostors (one identity attribute differs) and mean cosines."""
    import numpy as np
    import torch
    import torch.nn.functional as F
    from sklearn.metrics import roc_auc_score

    with torch.no_grad():
        embeddings = torch.cat(
            [
                F.normalize(model(aligned_crops(batch_of(corpus, np.arange(i, min(i + 200, len(corpus))))) * 2 - 1))
                for i in range(0, len(corpus), 200)
            ]
        ).numpy()
    identity = corpus.factors[:, :4].astype(int)
    rng = np.random.default_rng(0)
    a, b = rng.integers(len(corpus), size=(2, pairs * 40))
    differing = (identity[a] != identity[b]).sum(1)
    cosine = (embeddings[a] * embeddings[b]).sum(1)
    same, other, hard = cosine[(differing == 0) & (a != b)], cosine[differing > 0], cosine[differing == 1]

    def auc(negative: np.ndarray) -> float:
        truth = np.r_[np.ones(len(same)), np.zeros(len(negative))]
        return float(roc_auc_score(truth, np.r_[same, negative]))

    return {"auc": auc(other), "auc_hard": auc(hard), "same": float(same.mean()), "different": float(other.mean())}
