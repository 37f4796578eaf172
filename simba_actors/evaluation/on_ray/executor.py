"""RayExecutor: the setting that has rollouts run on Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Unpack, cast

from simba_actors.class_help import suggests_names
from simba_actors.errors import ConfigError
from simba_actors.evaluation.executor import ExecutorArguments
from simba_actors.evaluation.on_ray.pool import WorkerPool
from simba_actors.evaluation.on_ray.travel import Parts, settings_to_send
from simba_actors.evaluation.on_ray.worker import Setup

RESERVED_OPTIONS = frozenset({"max_restarts", "max_task_retries", "max_concurrency", "lifetime", "name"})
"""Options of Ray's actors that are not the user's: lost workers are replaced, not restarted."""


@suggests_names(named={"num_workers": "workers", "num_cpus": "options={'num_cpus': …}"})
@dataclass(frozen=True, slots=True)
class RayExecutor:
    """Runs rollouts in worker processes of a Ray cluster.

        OptimizerConfig(executor=RayExecutor(workers=8), …)                        # on this machine
        OptimizerConfig(executor=RayExecutor(workers=64, address="auto"), …)       # on the cluster of this machine

    The optimizer's process keeps the run, its budget and the limits of endpoints, and writes rules; workers run the
    student and the metric, many rollouts at a time: `OptimizerConfig.max_concurrency` in all. The result is the same
    as without Ray. Rollouts of a worker or node that dies run again on another one, and another worker takes its
    place. A rollout that ends its worker's process, again when it runs there alone, is a failure of the program.

    Raises:
        ConfigError: A value is out of range.
    """

    workers: int
    """Number of worker processes. The cluster may have room for fewer: the rest starts when it has."""

    address: str | None = None
    """The cluster's, as `ray.init` takes it. By default the one that this process is connected to, or the one that the
    environment variable RAY_ADDRESS names, or else one on this machine that ends with the run."""

    setup: Setup = None
    """A function, or "module:function", that each worker calls first. It may return a dict with any of `student`,
    `metric`, `lm`, `teacher_lm` and `sampling_lms`. What it returns is used in place of the config's and never
    travels, so that clients stay where they were made, and keys come from the worker's environment. The rest travels
    by cloudpickle. LMs that travel keep the keys that they had when the run started."""

    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Options of Ray's actors, such as `{"num_cpus": 0.5, "runtime_env": {…}}`. By default a worker takes one CPU."""

    def __post_init__(self) -> None:
        workers, setup = cast("Any", self.workers), cast("Any", self.setup)
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ConfigError(f"RayExecutor(workers={workers!r}): must be a whole number of at least 1")
        if isinstance(setup, str) and not all(setup.partition(":")):
            raise ConfigError(f'RayExecutor(setup={setup!r}): must be a function, or a text like "module:function"')
        if setup is not None and not isinstance(setup, str) and not callable(setup):
            raise ConfigError(f"RayExecutor(setup={setup!r:.80}): must be a function without arguments, or its name")
        reserved = RESERVED_OPTIONS & set(self.options)
        if reserved:
            raise ConfigError(f"RayExecutor(options=…): {', '.join(sorted(reserved))} can't be set: leave it out")

    def __call__(self, **arguments: Unpack[ExecutorArguments]) -> WorkerPool:
        """Return what runs the rollouts of one run. It connects to the cluster when it is first used."""
        parts = Parts(
            student=arguments["student"],
            metric=arguments["metric"],
            lms=arguments["lms"],
            space=arguments["space"],
            examples=arguments["examples"],
            objectives=arguments["objectives"],
            rollout_timeout=arguments["rollout_timeout"],
            on_metric_error=arguments["on_metric_error"],
            settings=settings_to_send(),
        )
        return WorkerPool(
            parts,
            workers=self.workers,
            address=self.address,
            setup=self.setup,
            options=self.options,
            governor=arguments["governor"],
            caller=arguments["caller"],
            threads=arguments["threads"],
        )
