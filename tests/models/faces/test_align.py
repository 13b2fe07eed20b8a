import math

import numpy as np
import pytest
import torch

from likeness.models.faces.align import align, invert_similarity, similarity, template


def _keypoints(seed, count=1):
    """Plausible key points somewhere in a 200 pixel picture: the template scaled, turned, moved and shaken."""
    rng = np.random.default_rng(seed)
    angle, scale = rng.uniform(-0.6, 0.6, count), rng.uniform(0.6, 1.4, count)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1).reshape(-1, 2, 2)
    centred = template(112).numpy() - 56
    points = scale[:, None, None] * centred @ turn.transpose(0, 2, 1) + rng.uniform(80, 120, (count, 1, 2))
    return torch.tensor(points + rng.normal(0, 2, points.shape), dtype=torch.float32)


@pytest.mark.parametrize(
    ("angle", "scale", "shift"), [(0.0, 1.0, (0.0, 0.0)), (0.7, 2.5, (30.0, -4.0)), (-3.0, 0.2, (5, 9))]
)
def test_recovers_a_known_transform(angle, scale, shift):
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    known = torch.tensor([[[cosine, -sine, shift[0]], [sine, cosine, shift[1]]]], dtype=torch.float64)
    points = template(112).double()
    moved = points @ known[0, :, :2].T + known[0, :, 2]
    torch.testing.assert_close(similarity(points[None], moved), known)


def test_inverse_undoes_the_transform():
    matrix = similarity(_keypoints(0, 4).double(), template(112).double())
    inverse = invert_similarity(matrix)
    both = inverse[:, :, :2] @ matrix[:, :, :2]
    torch.testing.assert_close(both, torch.eye(2, dtype=torch.float64).expand(4, 2, 2))
    zero = (inverse[:, :, :2] @ matrix[:, :, 2:] + inverse[:, :, 2:]).abs().max()
    assert zero < 1e-9


@pytest.mark.parametrize("size", [112, 128, 224, 256])
def test_same_matrix_as_insightface(size):
    from insightface.utils.face_align import estimate_norm

    keypoints = _keypoints(size, 5)
    ours = similarity(keypoints, template(size)).numpy()
    theirs = np.stack([estimate_norm(points.numpy(), size) for points in keypoints])
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


@pytest.mark.parametrize("size", [112, 128])
def test_same_crop_as_insightface(size):
    from insightface.utils.face_align import norm_crop

    picture = np.random.default_rng(1).integers(0, 256, (190, 230, 3), dtype=np.uint8)
    for points in _keypoints(2, 4):
        ours = align(torch.tensor(picture).permute(2, 0, 1)[None].float(), points[None], size)[0].permute(1, 2, 0)
        theirs = norm_crop(picture, points.numpy(), size)
        # norm_crop rounds to whole grey levels: half a level, and a little for its float32 coordinates.
        assert np.abs(ours.numpy() - theirs).max() < 0.6


def test_gradient_matches_finite_differences():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, 40, 50, dtype=torch.float64, generator=generator, requires_grad=True)
    keypoints = (_keypoints(3).double() * 0.25).requires_grad_()
    weights = torch.rand(1, 1, 112, 112, dtype=torch.float64, generator=generator)

    def value(pixels, points):
        return (align(pixels, points, 112) * weights).sum()

    value(image, keypoints).backward()
    for tensor, other in ((image, False), (keypoints, True)):
        direction = torch.randn(tensor.shape, dtype=torch.float64, generator=generator)
        step = 1e-7 * direction
        with torch.no_grad():
            ends = [
                value(image, keypoints + s * step) if other else value(image + s * step, keypoints) for s in (1, -1)
            ]
        numeric = (ends[0] - ends[1]) / 2e-7
        torch.testing.assert_close((tensor.grad * direction).sum(), numeric, rtol=1e-4, atol=1e-4)


def test_coinciding_keypoints_stay_finite():
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    crop = align(image, torch.full((1, 5, 2), 10.0))
    crop.sum().backward()
    assert crop.isfinite().all()
    assert image.grad.isfinite().all()


def test_batch_order_does_not_matter():
    images, keypoints = torch.rand(3, 3, 64, 64), _keypoints(4, 3) * 0.4
    torch.testing.assert_close(align(images, keypoints).flip(0), align(images.flip(0), keypoints.flip(0)))


def test_odd_crop_size_is_refused():
    with pytest.raises(ValueError, match="multiple of 112 or 128"):
        template(100)
