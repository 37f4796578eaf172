"""Texts are similar by the words that they have in common."""

from __future__ import annotations

from simba_actors.search.statistics.text_similarity import TextSimilarity


def test_the_most_similar_document_is_at_one_and_those_without_a_word_in_common_at_zero() -> None:
    near = TextSimilarity(["blue river", "blue sea", "old sea", "tree tree"]).of("the blue river in blue")
    assert near[0] == 1.0
    assert 0 < near[1] <= 1.0
    assert near[3] == 0.0
