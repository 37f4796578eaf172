"""What the Coordinator knows of its run."""

from __future__ import annotations

from dataclasses import dataclass, field

from simba_actors.search.evidence import Evidence
from simba_actors.search.policy import StepPlan
from simba_actors.search.progress import Progress
from simba_actors.search.trajectory import JSON
from simba_actors.team.messages import Proposed


@dataclass(slots=True)
class CoordinatorState:
    """Where the run stands; all of it can be read from the store.

    `policy_state` is what the last closed step left. `plan` is the open step's, None between steps; `proposed` what
    the Proposer told of it, and `evaluated` its candidates whose planned rollouts are all in. `finalists` are programs
    whose final rollouts are awaited, `sent_ahead` those whose final rollouts are under way early. `spent` is the
    cap of the budget that is reached, if one is, and `draining` the actors whose work in flight is awaited then.
    `progress` is what the last closed step left, `ended_by` says what ended the search. `recalled` says that some final
    rollouts may be under way since an earlier life.
    """

    policy_state: JSON = None
    steps_closed: int = 0
    evidence: Evidence = field(default_factory=Evidence)
    plan: StepPlan | None = None
    proposed: Proposed | None = None
    evaluated: set[int] = field(default_factory=set[int])
    finalists: set[int] = field(default_factory=set[int])
    sent_ahead: set[int] = field(default_factory=set[int])
    spent: str | None = None
    draining: set[str] = field(default_factory=set[str])
    progress: Progress | None = None
    ended_by: str = ""
    recalled: bool = False
    paused: bool = False
    finished: bool = False
