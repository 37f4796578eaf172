"""Which examples a text is about, by the words that they share."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from simba_actors.search.model.estimation import Matrix, Vector

WORD = re.compile(r"\w+")


class Similarity:
    """Cosine similarity of texts to a fixed set of rows, over words weighted by inverse document frequency.

    The weights are Salton and Buckley's ("Term-weighting approaches in automatic text retrieval", 1988). A word of one
    row alone says nothing of another row, and is left out.
    """

    def __init__(self, rows: Sequence[str]) -> None:
        words = [set(WORD.findall(row.lower())) for row in rows]
        documents = Counter(word for row in words for word in row)
        self._place = {word: n for n, word in enumerate(sorted(w for w, count in documents.items() if count > 1))}
        self._weight = np.array([math.log(len(rows) / documents[word]) for word in self._place])
        self._rows: Matrix = np.array([self._vector(row) for row in words]).reshape(len(rows), len(self._place))
        self._known: dict[str, Vector] = {}

    @property
    def rows(self) -> int:
        return len(self._rows)

    def to_rows(self, text: str) -> Vector:
        """How near each row is to `text`, from 0 to 1; the nearest is at 1, unless none is near at all."""
        if text not in self._known:
            similarity = self._rows @ self._vector(set(WORD.findall(text.lower())))
            nearest = float(similarity.max(initial=0.0))
            self._known[text] = similarity / nearest if nearest > 0 else similarity
        return self._known[text]

    def _vector(self, words: set[str]) -> Vector:
        vector = np.zeros(len(self._place))
        for word in words & self._place.keys():
            vector[self._place[word]] = self._weight[self._place[word]]
        norm = float(np.linalg.norm(vector))
        return vector / norm if norm > 0 else vector
