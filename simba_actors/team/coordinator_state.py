"""The Coordinator's view of its run."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.policy import StepPlan
from simba_actors.search.progress import Progress
from simba_actors.search.rollout import JSON
from simba_actors.team.messages import Proposed


class Phase(StrEnum):
    """Phase of a run. A run passes through them from top to bottom."""

    SEARCHING = "searching"
    """Steps are open, or are about to be opened."""
    FINALS = "finals"
    """The search is over, and the winner is being chosen."""
    DRAINING = "draining"
    """A cap of the budget is reached, and the work in flight is awaited."""
    ENDED = "ended"
    """The run has its result, or has failed."""


@dataclass(slots=True)
class RunningStep:
    """A step that is open."""

    plan: StepPlan
    proposed: Proposed | None = None
    """The candidates, once all are known."""
    evaluated: set[int] = field(default_factory=set[int])
    """Candidates whose planned rollouts all have results."""
    scores: list[Score] = field(default_factory=list[Score])
    """Scores so far. They count as evidence when the step closes, whenever they arrive."""

    @property
    def is_complete(self) -> bool:
        """Whether the step can be closed."""
        return self.proposed is not None and self.evaluated.issuperset(self.proposed.tried.candidates)

    def __str__(self) -> str:
        return f"step {self.plan.step + 1} {'sampling' if self.proposed is None else 'evaluating'}"


@dataclass(slots=True)
class CoordinatorState:
    """Progress of the run. All of it can be read from the store again."""

    phase: Phase = Phase.SEARCHING
    closed: JSON = None
    """The policy's state after the last closed step."""
    steps_closed: int = 0
    evidence: Evidence = field(default_factory=Evidence)
    """The scores of closed steps and of final rollouts."""
    steps: dict[int, RunningStep] = field(default_factory=dict[int, RunningStep])
    """The open steps by number, in order."""
    stop_asked: int = 0
    """Number of closed steps that `stop_when` was asked about."""
    stopped_by: str | None = None
    """The reason that `stop_when` gave to open no more steps; None if it gave none."""
    finalists: set[int] = field(default_factory=set[int])
    """Programs whose final rollouts are awaited."""
    draining: set[str] = field(default_factory=set[str])
    """Actors whose work in flight is awaited, while DRAINING."""
    progress: Progress | None = None
    """Findings and usage at the end of the last closed step."""
    ended_by: str = ""
    """Why the search ended, from FINALS on."""
    final_rollouts_may_be_left: bool = False
    """Whether final rollouts may be left without a result from before this actor started."""
    pause_is_stored: bool = False
    """Whether the store knows that the run is paused."""
    waiting: bool = False
    """Whether the store says that the run waits for an endpoint."""

    @property
    def opened(self) -> JSON:
        """The policy's state after the plan of the step that was opened last."""
        return next((step.plan.state for step in reversed(self.steps.values())), self.closed)

    @property
    def pool_end(self) -> int | None:
        """The first number that is not of a closed step's program; None if no step is open."""
        return next((step.plan.first_program for step in self.steps.values()), None)

    def all_evidence(self) -> Evidence:
        """Return all known scores, including those of open steps."""
        evidence = self.evidence.copy()
        for step in self.steps.values():
            evidence.add(step.scores)
        return evidence
