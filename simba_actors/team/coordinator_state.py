"""The Coordinator's view of its run."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from simba_actors.search.evidence import Evidence
from simba_actors.search.policy import StepPlan
from simba_actors.search.progress import Progress
from simba_actors.search.trajectory import JSON
from simba_actors.team.messages import Proposed


class Phase(StrEnum):
    """Phase of a run. A run passes through them from top to bottom, through the first two once per step."""

    SAMPLING = "sampling"
    """Trajectories of the open step are sampled, and candidates are made from them."""
    EVALUATING = "evaluating"
    """All candidates of the open step are known, and their scores are awaited."""
    FINALS = "finals"
    """The search is over, and the winner is being chosen."""
    DRAINING = "draining"
    """A cap of the budget is reached, and the work in flight is awaited."""
    ENDED = "ended"
    """The run has its result, or has failed."""


@dataclass(slots=True)
class CoordinatorState:
    """Progress of the run. All of it can be read from the store again."""

    phase: Phase = Phase.SAMPLING
    policy_state: JSON = None
    """The policy's state after the last closed step."""
    steps_closed: int = 0
    evidence: Evidence = field(default_factory=Evidence)
    """All scores of the run."""
    plan: StepPlan | None = None
    """The plan of the open step; None between steps."""
    proposed: Proposed | None = None
    """The candidates of the open step, once all are known."""
    evaluated: set[int] = field(default_factory=set[int])
    """Candidates of the open step whose planned rollouts all have results."""
    finalists: set[int] = field(default_factory=set[int])
    """Programs whose final rollouts are awaited."""
    sent_ahead: set[int] = field(default_factory=set[int])
    """Programs whose final rollouts were started before the search was over."""
    spent: str = ""
    """The cap of the budget that is reached while DRAINING."""
    draining: set[str] = field(default_factory=set[str])
    """Actors whose work in flight is awaited while DRAINING."""
    progress: Progress | None = None
    """Findings and usage at the end of the last closed step."""
    ended_by: str = ""
    """Why the search ended, from FINALS on."""
    stopped: bool = False
    """Whether `stop_when` ended the search."""
    final_rollouts_may_be_left: bool = False
    """Whether an earlier life of this actor may have left final rollouts without a result."""
    pause_is_stored: bool = False
    """Whether the store knows that the run is paused."""
    waiting: bool = False
    """Whether the store says that the run waits for an endpoint."""
