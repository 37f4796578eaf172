"""The Analyzer: ranks a step's buckets by their scores, and computes statistics."""

from __future__ import annotations

from typing import Any

from simba_actors.actors import CastReturn, GenServer, InitReturn
from simba_actors.events import BucketsAnalyzed
from simba_actors.search.buckets import batch_statistics, rank_buckets
from simba_actors.team.messages import PROPOSER, Analyzed, Sampled, Teammates


class Analyzer(GenServer[set[int]]):
    """Groups the samples of a step by example. Its state is the steps analyzed so far, so that each has one event."""

    def __init__(self, teammates: Teammates) -> None:
        self._teammates = teammates

    async def init(self) -> InitReturn:
        self.state = set()
        return None

    async def handle_cast(self, message: Any) -> CastReturn:
        match message:
            case Sampled(plan=plan, scores=scores):
                buckets = rank_buckets(plan.batch, [(score.example, score.score) for score in scores])
                statistics = batch_statistics([score.score for score in scores])
                analyzed = Analyzed(plan, tuple(buckets), statistics)
                if plan.step not in self.state:
                    self.state.add(plan.step)
                    await self._teammates.commit_later([], [_event(analyzed)])
                await self._teammates.via(PROPOSER).cast(analyzed)
                return None
            case _:
                return await super().handle_cast(message)

    def format_state(self) -> str:
        return f"{len(self.state)} steps analyzed"


def _event(analyzed: Analyzed) -> BucketsAnalyzed:
    statistics, has_scores = analyzed.statistics, bool(analyzed.buckets)
    return BucketsAnalyzed(
        step=analyzed.plan.step,
        buckets=len(analyzed.buckets),
        spread=sum(bucket.max_to_min_gap > 0 for bucket in analyzed.buckets),
        sampled_mean=statistics.sampled_mean,
        p10=statistics.p10 if has_scores else None,
        p90=statistics.p90 if has_scores else None,
    )
