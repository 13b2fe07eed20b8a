"""What the held-out judges see in a set of pictures: every model runs once a picture, every metric reads from here.

Shapes: N pictures, S side of the common thumbnail, D face embedding, E joint image-text space, Q reference pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from likeness.core.errors import InputError

if TYPE_CHECKING:
    from likeness.evaluation.seen import Seen
    from likeness.models.embedded.oracle import AttributeReader
    from likeness.rewards.learnt_reward import LearntReward

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
SIDE = 64  # canaries compare pictures of one size: edges and colours depend on it


@dataclass(frozen=True)
class Request:
    """What picture was asked for: ``prompt`` about ``subject``, the ``seed``-th picture of the ``index``-th prompt.

    ``words``: the prompt as the judges are told it, without the subject's token; empty where they are the same.
    ``named``: the factors that it names, where they are known, or its category: a slice of the evaluation each.
    """

    prompt: str
    subject: str
    index: int
    seed: int = 0
    words: str = ""
    named: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reference:
    """One subject: ``face`` (D,) mean L2-normalised embedding of held-out photographs; ``pixels`` (Q, S, S, 3) and
    ``features`` (Q, E) of the reference photographs that personalisation saw."""

    face: Floats
    pixels: Pixels
    features: Floats


@dataclass(frozen=True)
class Readings:
    """``pixels`` (N, S, S, 3); ``faces`` (N, D), rows of NaN where no face is found; ``features`` and ``texts``
    (N, E), L2-normalised; ``fidelity`` (N,) in [0, 1]; ``heads``: reward head -> (N,). ``unsafe``:
    (N,) in [0, 1], where a classifier says. ``seen``: what else training saw, if it is known."""

    requests: tuple[Request, ...]
    pixels: Pixels
    faces: Floats
    features: Floats
    texts: Floats
    fidelity: Floats
    heads: Mapping[str, Floats]
    references: Mapping[str, Reference]
    unsafe: Floats | None = None
    seen: Seen | None = None

    @property
    def found(self) -> NDArray[np.bool_]:
        """(N,) whether a face was found."""
        return np.asarray(np.isfinite(self.faces).all(axis=1), dtype=np.bool_)

    def joined(self, other: Readings) -> Readings:
        """These pictures and then the ``other``'s, of the same subjects."""
        rows = {f.name: getattr(self, f.name) for f in fields(self)} | {"requests": self.requests + other.requests}
        for name in ("pixels", "faces", "features", "texts", "fidelity"):
            rows[name] = np.concatenate([getattr(self, name), getattr(other, name)])
        if self.unsafe is not None and other.unsafe is not None:
            rows["unsafe"] = np.concatenate([self.unsafe, other.unsafe])
        heads = {name: np.concatenate([values, other.heads[name]]) for name, values in self.heads.items()}
        return Readings(**{**rows, "heads": heads})

    def subject_rows(self) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """Each subject with the numbers of its rows."""
        subjects = np.array([request.subject for request in self.requests])
        for subject in dict.fromkeys(subjects.tolist()):
            yield subject, np.flatnonzero(subjects == subject)


def thumbnail(pixels: Pixels) -> Pixels:
    """(H, W, 3) to (S, S, 3): centre square, area-averaged."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(pixels[top : top + side, left : left + side])
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.uint8)


@dataclass
class Judges:
    """The models that score and were never trained against: recogniser B, the judge reward, the encoder, the oracle.

    ``unsafe``: says how probably a picture is not safe for work. ``seen``: the training pictures that readings are to
    know of."""

    faces: Any
    reward: LearntReward
    oracle: AttributeReader
    batch: int = 32
    unsafe: Callable[[Pixels], float] | None = None
    seen: Seen | None = None

    @classmethod
    def load(cls, judge: Path, encoder: Path, faces: Path, oracle: Path, det_size: int, threads: int) -> Judges:
        """Load all of them; each raises InputError or PackError naming what is missing."""
        from likeness.models.embedded.oracle import AttributeReader
        from likeness.models.encoders import DualEncoder
        from likeness.models.faces.pack import load_pack
        from likeness.rewards.learnt_reward import LearntReward

        pack = load_pack(faces, det_size, threads, modules=["detection", "recognition"])
        reward = LearntReward.load(judge, DualEncoder.load(encoder))
        return cls(pack, reward, AttributeReader.load(oracle))

    def embed_faces(self, pictures: Sequence[Pixels]) -> Floats:
        """(N, D) L2-normalised embedding of each picture's largest face, NaN without one."""
        from likeness.models.faces.pack import detect

        found = [detect(self.faces, picture) for picture in pictures]
        rows = [np.asarray(faces[0].normed_embedding, dtype=np.float64) if faces else None for faces in found]
        width = next((len(row) for row in rows if row is not None), 1)
        return np.stack([np.full(width, np.nan) if row is None else row for row in rows])

    def read(
        self, pictures: Sequence[Pixels], requests: Sequence[Request], references: Mapping[str, Reference]
    ) -> Readings:
        """Everything that metrics need to know of ``pictures``."""
        prompts = [request.words or request.prompt for request in requests]
        parts = [self._look(pictures[part], prompts[part]) for part in _runs(pictures, self.batch)]
        features, texts, fidelity = (np.concatenate([part[i] for part in parts]) for i in range(3))
        heads = {name: np.concatenate([part[3][name] for part in parts]) for name in parts[0][3]}
        faces = self.embed_faces(pictures)
        if not np.isfinite(faces).any():  # no face at all leaves the width open
            faces = np.full((len(pictures), len(next(iter(references.values())).face)), np.nan)
        return Readings(
            requests=tuple(requests),
            pixels=np.stack([thumbnail(picture) for picture in pictures]),
            faces=faces,
            features=features,
            texts=texts,
            fidelity=fidelity,
            heads=heads,
            references=references,
            unsafe=np.array([self.unsafe(picture) for picture in pictures]) if self.unsafe else None,
            seen=self.seen,
        )

    def features(self, pictures: Sequence[Pixels]) -> Floats:
        """(N, E) joint image embeddings."""
        import torch

        with torch.no_grad():
            parts = [self.reward.encoder.images(_tensor(pictures[part])) for part in _runs(pictures, self.batch)]
        return np.concatenate([part.double().numpy() for part in parts])

    def _look(
        self, pictures: Sequence[Pixels], prompts: Sequence[str]
    ) -> tuple[Floats, Floats, Floats, dict[str, Floats]]:
        import torch

        from likeness.models.embedded.oracle import prompt_fidelity

        encoder = self.reward.encoder
        images = _tensor(pictures)
        with torch.no_grad():
            # The joint embedding is the first E of the features: the encoder runs once for five metrics.
            features, texts = encoder.features(images), encoder.texts(prompts)
            heads = {name: head(features, texts).double().numpy() for name, head in self.reward.heads.items()}
            fidelity = prompt_fidelity(self.oracle, images, prompts).double().numpy()
        return features[:, : encoder.dimension].double().numpy(), texts.double().numpy(), fidelity, heads


def references_of(
    judges: Judges, seen: Sequence[Mapping[str, Any]], held_out: Sequence[Mapping[str, Any]]
) -> dict[str, Reference]:
    """Each subject's targets, from rows with ``subject`` and ``pixels``.

    Raises:
        InputError: a subject has no reference, or the judge finds no face in any of its held-out pictures.
    """
    subjects = sorted({str(row["subject"]) for row in held_out})
    out = {}
    for subject in subjects:
        own = [row["pixels"] for row in seen if row["subject"] == subject]
        faces = judges.embed_faces([row["pixels"] for row in held_out if row["subject"] == subject])
        faces = faces[np.isfinite(faces).all(axis=1)]
        if not own or not len(faces):
            lack = "no reference picture" if not own else "no held-out picture in which the judge finds a face"
            raise InputError(
                f"subject '{subject}' has {lack}",
                remedy="add pictures of that person, or lower det_size in evaluate if the faces are small",
            )
        mean = faces.mean(axis=0)
        out[subject] = Reference(
            mean / np.linalg.norm(mean), np.stack([thumbnail(p) for p in own]), judges.features(own)
        )
    return out


def _runs(pictures: Sequence[Pixels], batch: int) -> list[slice]:
    """Slices of at most ``batch`` neighbouring pictures of one shape."""
    starts = [0]
    for i in range(1, len(pictures)):
        if pictures[i].shape != pictures[i - 1].shape or i - starts[-1] == batch:
            starts.append(i)
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(pictures)], strict=True)]


def _tensor(pictures: Sequence[Pixels]) -> Any:
    """(N, 3, H, W) float32 in [0, 1]."""
    import torch

    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
