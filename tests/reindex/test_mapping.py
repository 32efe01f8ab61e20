"""A mapping is as good as what it finds, and is recommended only where that is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exitramp.embedding_identity import Identified
from exitramp.errors import DataInvalid, ModelDiffers
from exitramp.records import EmbeddingModel, Metric, Verdict
from exitramp.reindex.judging import Judgement, judge_neighbours, judge_questions, scores_of
from exitramp.reindex.mapping import MapKind, SpaceMap, fit, way_through

RNG = np.random.default_rng(7)
OLD = Identified(EmbeddingModel(provider="a", name="old", revision="sha256:00"), 24)
NEW = Identified(EmbeddingModel(provider="b", name="new", revision="sha256:11"), 16)


def unit(rows: int, items: int) -> np.ndarray:
    found = RNG.normal(size=(rows, items))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def rotation(items: int) -> np.ndarray:
    return np.linalg.qr(RNG.normal(size=(items, items)))[0]


def space_map(old: np.ndarray, new: np.ndarray) -> SpaceMap:
    return SpaceMap(OLD, NEW, fit(old, new, None, seed=0), fit(new, old, None, seed=0))


def test_a_rotation_is_found_and_undone() -> None:
    old = unit(400, 16)
    new = (old @ rotation(16)).astype(np.float32)
    found = fit(old, new, MapKind.ORTHOGONAL, seed=0)
    assert np.abs(found.apply(old) - new).max() < 0.02


@pytest.mark.parametrize(("p", "q"), [(24, 16), (16, 24)])
@pytest.mark.parametrize("kind", list(MapKind))
def test_spaces_of_different_length_are_mapped_both_ways(p: int, q: int, kind: MapKind) -> None:
    narrow = unit(500, min(p, q))
    wide = np.zeros((500, max(p, q)), np.float32)
    wide[:, : min(p, q)] = narrow
    wide = (wide @ rotation(max(p, q))).astype(np.float32)
    old, new = (wide, narrow) if p > q else (narrow, wide)
    found = fit(old[:300], new[:300], kind, seed=0)
    cosines = (found.apply(old[300:]) * new[300:]).sum(axis=1)
    assert found.apply(old).shape == (500, q)
    assert cosines.min() > 0.95


def test_a_perfect_mapping_passes_and_one_of_noise_fails() -> None:
    new = unit(300, 16)
    names = [f"d{row}" for row in range(300)]
    rows = list(range(100))

    def judged(mapped: np.ndarray) -> Verdict:
        truth, made = scores_of(new[rows], new, Metric.COSINE), scores_of(new[rows], mapped, Metric.COSINE)
        return judge_neighbours("documents", truth, made, rows, names, margin=0.05, seed=0).verdict

    assert judged(new.copy()) is Verdict.PASS
    assert judged(unit(300, 16)) is Verdict.FAIL


def test_one_golden_question_under_a_hundred_ids_recommends_no_mapping() -> None:
    names = [f"d{row}" for row in range(50)]
    documents, cases = unit(50, 16), [f"c{row:03}" for row in range(100)]
    scores = scores_of(documents[[0] * 100], documents, Metric.COSINE)

    def judged(asked: dict[str, str]) -> Judgement:
        relevant = {case: {"d0": 3} for case in cases}
        return judge_questions(
            "documents", relevant, scores, scores.copy(), names, asked=asked, margin=0.05, seed=0
        )  # fmt: skip

    same = judged(dict.fromkeys(cases, "one"))
    assert (same.verdict, same.questions, same.ndcg.n) == (Verdict.INCONCLUSIVE, 1, 1)
    assert judged({case: case for case in cases}).verdict is Verdict.PASS


def test_too_few_texts_make_no_mapping() -> None:
    with pytest.raises(DataInvalid, match="49 texts"):
        fit(unit(49, 8), unit(49, 8), None, seed=0)


def test_a_map_comes_back_from_its_file_as_it_was_and_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    found = space_map(unit(100, 24), unit(100, 16))
    found.save(tmp_path / "map.npz")
    back = SpaceMap.load(tmp_path / "map.npz")
    assert back.digest() == found.digest()
    assert (back.old, back.new) == (OLD, NEW)
    vectors = unit(5, 24)
    assert np.array_equal(back.documents.apply(vectors), found.documents.apply(vectors))
    (tmp_path / "none.npz").write_bytes(b"no map")
    with pytest.raises(DataInvalid, match="no map"):
        SpaceMap.load(tmp_path / "none.npz")


def test_questions_of_the_new_model_are_mapped_for_the_old_collection_and_go_as_they_are_to_the_mapped_one() -> None:
    found = space_map(unit(100, 24), unit(100, 16))
    assert way_through(found, OLD, NEW, "x").maps is found.questions
    assert way_through(found, Identified(found.model(), 16), NEW, "x").maps is None
    with pytest.raises(ModelDiffers):
        way_through(found, OLD, OLD, "x")
    with pytest.raises(ModelDiffers):
        way_through(found, NEW, NEW, "x")
