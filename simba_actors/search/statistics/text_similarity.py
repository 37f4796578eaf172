"""Similarity of texts by the words that they have in common."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from simba_actors.search.statistics.linear_algebra import Vector, concatenated_ranges

WORD = re.compile(r"\w+")


class TextSimilarity:
    """Cosine similarity of texts to a fixed set of documents, over words weighted by inverse document frequency.

    The weights are those of Salton and Buckley ("Term-weighting approaches in automatic text retrieval", 1988). Words
    that only one document has are left out, since they say nothing about other documents.
    """

    def __init__(self, documents: Sequence[str]) -> None:
        self.documents = len(documents)
        # All of this goes document by document: a single call for all would keep other threads waiting until it ends.
        words = [list(dict.fromkeys(WORD.findall(document.lower()))) for document in documents]
        frequency = Counter[str]()
        for own in words:
            frequency.update(own)
        self._number = {word: n for n, word in enumerate(word for word, count in frequency.items() if count > 1)}
        weight = np.array([math.log(len(documents) / frequency[word]) for word in self._number])
        known = [
            np.array([self._number[word] for word in own if word in self._number], dtype=np.int64) for own in words
        ]
        document_of = np.repeat(np.arange(len(documents)), [len(own) for own in known])
        word_of = np.concatenate([np.zeros(0, dtype=np.int64), *known])
        values = weight[word_of]
        norms = np.sqrt(np.bincount(document_of, values**2, self.documents))
        by_word = np.argsort(word_of, kind="stable")
        # An inverted index: the documents that have a word, one word after another, and what each of them gains in
        # similarity to a text that has the word too.
        self._document = document_of[by_word]
        self._product: Vector = (values / np.maximum(norms, 1e-300)[document_of] * values)[by_word]
        self._count = np.bincount(word_of, minlength=len(self._number))
        self._first = np.cumsum(self._count) - self._count

    def of(self, text: str) -> Vector:
        """Return the similarity of each document to `text`, scaled so that the most similar one is at 1.

        All are 0 if no document has a word in common with it.
        """
        words = set(WORD.findall(text.lower()))
        own = np.array(sorted(self._number[word] for word in words if word in self._number), dtype=np.int64)
        at = concatenated_ranges(self._first[own], self._count[own])
        # The text's own norm is left out: it is the same for all documents.
        similarity = np.bincount(self._document[at], self._product[at], self.documents)
        largest = float(similarity.max(initial=0.0))
        return similarity / largest if largest > 0 else np.zeros(self.documents)
