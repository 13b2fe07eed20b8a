"""Clusters of faces against a plain O(N^3) average linkage, and wrong faces that were put into folders."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likeness.data.detections import Embeddings
from likeness.data.persons import Faces, cluster_persons, compare_faces


def people(sizes: list[int], spread: float, seed: int, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around one random direction a person, and whose they are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(sizes), width))
    owner = np.repeat(np.arange(len(sizes)), sizes)
    noise = rng.normal(size=(len(owner), width)) * spread
    vectors = centres[owner] / np.linalg.norm(centres[owner], axis=1, keepdims=True) + noise / np.sqrt(width)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), owner


def plain_average_linkage(vectors: np.ndarray, threshold: float) -> list[set[int]]:
    """Merge the two clusters of the highest mean cosine while it reaches the threshold."""
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    clusters = [{row} for row in range(len(vectors))]
    while len(clusters) > 1:
        pairs = [(i, j) for i in range(len(clusters)) for j in range(i)]
        mean = [cosines[np.ix_(sorted(clusters[i]), sorted(clusters[j]))].mean() for i, j in pairs]
        best = int(np.argmax(mean))
        if mean[best] < threshold:
            break
        i, j = pairs[best]
        clusters[j] |= clusters[i]
        del clusters[i]
    return clusters


def as_sets(labels: np.ndarray) -> list[set[int]]:
    return [set(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=6), st.floats(0.3, 2.0), st.floats(0.2, 0.8), st.integers(0, 99)
)
def test_the_parts_that_faiss_finds_change_nothing_of_average_linkage(sizes, spread, threshold, seed) -> None:
    vectors, _ = people(sizes, spread, seed)
    found, expected = as_sets(cluster_persons(vectors, threshold)), plain_average_linkage(vectors, threshold)
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected))


def test_the_order_of_the_faces_does_not_matter_and_the_largest_person_comes_first() -> None:
    vectors, owner = people([2, 9, 5, 1], 0.5, 0)
    labels = cluster_persons(vectors, 0.5)
    assert [set(labels[owner == one].tolist()) for one in (1, 2, 0, 3)] == [{0}, {1}, {2}, {3}]
    order = np.random.default_rng(1).permutation(len(vectors))
    assert (cluster_persons(vectors[order], 0.5) == labels[order]).all()
    twice = cluster_persons(np.vstack([vectors, vectors[3:4]]), 0.5)
    assert twice[-1] == twice[3]
    assert cluster_persons(np.zeros((0, 64), np.float32), 0.5).shape == (0,)


def folders(sizes: list[int], spread: float = 0.5) -> Faces:
    vectors, owner = people(sizes, spread, 3)
    ids = tuple(f"{row:04d}" for row in range(len(owner)))
    return Faces(ids, tuple(f"person{one}" for one in owner), vectors)


@pytest.mark.parametrize("seed", range(5))
def test_a_face_in_the_wrong_folder_is_found_and_said_whose_it_is(seed: int) -> None:
    faces = folders([8, 8, 8])
    rng = np.random.default_rng(seed)
    moved = sorted(rng.choice(len(faces.ids), 3, replace=False).tolist())
    persons = list(faces.persons)
    for row in moved:
        persons[row] = f"person{(int(persons[row][-1]) + 1) % 3}"
    found = compare_faces(Faces(faces.ids, tuple(persons), faces.embeddings), 0.5)
    assert sorted(found.wrong) == [faces.ids[row] for row in moved]
    for row in moved:
        text = found.wrong[faces.ids[row]]
        assert text.startswith(f"does not look like {persons[row]}: similarity ")
        assert f"looks like {faces.persons[row]} (" in text
        mine = [i for i, one in enumerate(persons) if one == persons[row] and i not in moved]
        centre = faces.embeddings[mine].sum(axis=0)
        expected = float(centre @ faces.embeddings[row] / np.linalg.norm(centre))
        assert found.similarity[faces.ids[row]] == pytest.approx(expected, abs=1e-5)


def test_a_stranger_is_wrong_and_nobody_is_named_for_them() -> None:
    faces = folders([6, 1])
    found = compare_faces(Faces(faces.ids, ("person0",) * 7, faces.embeddings), 0.5)
    assert list(found.wrong) == ["0006"]
    assert "looks like" not in found.wrong["0006"].removeprefix("does not look like")


def test_where_two_people_are_equally_often_every_picture_is_named() -> None:
    faces = folders([2, 2])
    found = compare_faces(Faces(faces.ids, ("anna",) * 4, faces.embeddings), 0.5)
    assert sorted(found.wrong) == list(faces.ids)
    assert set(found.wrong.values()) == {"the 4 pictures of anna show 2 people, and none of them the most often"}


def test_a_picture_alone_and_one_of_nobody_are_not_judged() -> None:
    faces = folders([1, 3])
    found = compare_faces(Faces(faces.ids, ("anna", None, None, None), faces.embeddings), 0.5)
    assert not found.wrong
    assert not found.similarity
    assert set(found.clusters) == set(faces.ids)


def test_faces_are_the_pictures_with_an_embedding_in_the_order_of_their_ids() -> None:
    column = pa.array([[1.0, 0.0], None, [0.0, 1.0]], pa.list_(pa.float32()))
    faces = Faces.of({"b": "x", "c": "x", "a": None}, Embeddings(["b", "c", "a"], column))
    assert faces.ids == ("a", "b")
    assert faces.persons == (None, "x")
    assert faces.embeddings.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert list(faces.groups()) == ["x"]
    nobody = Embeddings(["a"], pa.array([None], pa.list_(pa.float32())))
    assert Faces.of({"a": "x"}, nobody).embeddings.shape == (0, 0)
    assert cluster_persons(Faces.of({"a": "x"}, nobody).embeddings, 0.5).shape == (0,)
