"""The statistics of a step's scores."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simba_actors.search.buckets import BatchStatistics, batch_statistics


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_percentiles_are_those_of_numpy_to_the_last_bit(scores: list[float]) -> None:
    statistics = batch_statistics(scores)
    assert (statistics.p10, statistics.p90) == (np.percentile(scores, 10), np.percentile(scores, 90))


def test_a_step_without_scores_has_no_mean() -> None:
    assert batch_statistics([]) == BatchStatistics(None, 0.0, 0.0)
