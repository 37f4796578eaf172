"""The priors of the model of parts: standard deviations, in log-odds, of normal distributions with mean 0.

For scale: from 50 to 60 % is 0.4.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from simba_actors.search.statistics.linear_algebra import Booleans, Matrix, Vector

COMMON = (2.0, 0.3, 0.3, 0.3, 0.3, 0.3, 2.0)
"""Priors of the columns before `effects.PARTS`, in their order.

Those of the length are as wide as that of a part's own effect. Good programs tend to have many parts: under a narrow
prior the parts would get too little credit and their number too little blame. That of `SHOWN` is wide because a small
LM may never give an answer that its demos do not show (the label space: Min et al., "Rethinking the role of
demonstrations: what makes in-context learning work?", 2022)."""

GENERAL = 0.3
"""Prior of the effect everywhere of a part that is about no examples in particular."""

SPECIFIC = 0.12
"""Prior of the effect everywhere of a part that is about some examples more than about others."""

NEARBY = 0.8
"""Prior of the additional effect of a part on an example that it is about."""

IN_ORDER = 0.6
"""Prior of the effect of an answer in one position."""

EASE = 1.0
"""Prior of the ease of an example."""

BEYOND_PARTS = 0.2
"""Prior of a program's value beyond the sum of its parts, for a program with at most one demo in each prompt."""

PAIR_OF_DEMOS = 0.02
"""Increase of `BEYOND_PARTS` per pair of demos in one prompt: the same demos can be near the best in one order, and
near chance in another (Lu et al., "Fantastically ordered prompts and where to find them", 2022)."""


def of_parts(specific: Booleans) -> Matrix:
    """Return two rows, the priors of each part's effect everywhere and of its additional effect nearby.

    `specific` says of each part whether it is about some examples more than about others.
    """
    return np.stack([np.where(specific, SPECIFIC, GENERAL), np.full(len(specific), NEARBY)])


def of_columns(specific: Booleans, in_order: int = 0) -> Vector:
    """Return the prior of each column of the design.

    `specific` is as in `of_parts`, of the parts that are fitted. `in_order` is the number of columns for the order of
    answers.
    """
    return np.concatenate([np.array(COMMON), *of_parts(specific), np.full(in_order, IN_ORDER)])


def beyond_parts(demos: Matrix) -> Vector:
    """Return the prior of each program's value beyond its parts, given the number of its demos for each predictor."""
    pairs = PAIR_OF_DEMOS * demos * (demos - 1) / 2
    return cast("Vector", np.sqrt(BEYOND_PARTS**2 + (pairs**2).sum(axis=1)))
