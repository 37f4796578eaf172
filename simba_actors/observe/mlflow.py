"""A run in MLflow: parameters, metrics by step, the best program, and the prompts that a channel serves.

    from simba_actors.observe import MLflowCallback

    config = OptimizerConfig(…, callbacks=[MLflowCallback(experiment="support-bot")])

It needs the extra `mlflow`.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import dspy

from simba_actors.events import Event, ProgramPublished, RunFailed, RunFinished, StepClosed
from simba_actors.lm.secrets import NOT_SECRET, SECRET_SETTINGS
from simba_actors.programs import Configuration
from simba_actors.programs.copying import Copier
from simba_actors.programs.messages import PromptTemplate
from simba_actors.programs.object_graph import lms_within
from simba_actors.publishing.channel import Channel
from simba_actors.runtime.extras import import_extra
from simba_actors.runtime.threads import Threads
from simba_actors.search.rollout import JSON
from simba_actors.store import Reader
from simba_actors.store.queries import score_queries
from simba_actors.store.queries.score_queries import StepSpending
from simba_actors.store.records import Run

R = TypeVar("R")

TAG = "simba_actors.run"
"""Tag of a run in MLflow that holds the name of the run in its store."""

LONGEST_VALUE = 500
"""Maximum number of characters of a parameter's value, which some of MLflow's stores require."""


class Watched(Protocol):
    """The part of an Optimizer that a callback uses."""

    @property
    def run_id(self) -> str: ...
    @property
    def store(self) -> Path: ...
    async def result(self) -> Any: ...


class MLflowCallback:
    """Logs a run to MLflow as it progresses. One callback follows one run.

        config = OptimizerConfig(…, callbacks=[MLflowCallback(experiment="support-bot")])
        …
        program = mlflow.dspy.load_model(f"runs:/{mlflow_run_id}/program")
        dspy.configure(lm=dspy.LM(…))  # the default LM is not part of what is logged

    The run in MLflow has the settings as parameters; by step the best score with its interval, the step's own scores,
    calls, tokens, cost and seconds as metrics; and in the end the best program as the artifact "program", and the
    printed result as "result.txt". A run that is continued, in this process or another, continues its run in MLflow.

    Each version that a channel serves is in MLflow's prompt registry: a prompt "<channel>.<predictor>" of chat
    messages, with the inputs as {{variables}}, and the alias "version-<n>". The alias "served" marks the version that
    all calls get. It also moves when another program replaces one from this run, as in a rollback.

    API keys of LMs are not logged. An error of MLflow is logged and ends the logging, but not the run.

    Args:
        experiment: Name of the experiment. Created if missing.
        tracking_uri: Where MLflow keeps its data; by default its own setting, such as MLFLOW_TRACKING_URI.
        log_program: Whether to log the best program. DSPy saves it with cloudpickle, so only load what you trust.

    Raises:
        MissingExtraError: MLflow is not installed.
    """

    farewell = 60.0
    """Seconds that logging the rest may take when the run stops."""

    def __init__(self, *, experiment: str, tracking_uri: str | None = None, log_program: bool = True) -> None:
        mlflow = import_extra("mlflow", extra="mlflow", user="MLflowCallback")
        self._experiment = experiment
        self._client: Any = mlflow.MlflowClient(tracking_uri)
        self._log_program = log_program
        self._threads = Threads()
        self._optimizer: Watched | None = None
        self._mlflow_run: str | None = None

    def started(self, optimizer: Watched) -> None:
        """Note the optimizer whose events follow."""
        self._optimizer = optimizer

    async def __call__(self, event: Event) -> None:
        """Log the changes that an event reports."""
        optimizer = self._optimizer
        if optimizer is None:
            raise RuntimeError("MLflowCallback follows an Optimizer: pass it in OptimizerConfig(callbacks=[…])")
        async with await Reader.open(optimizer.store) as reader:
            if self._mlflow_run is None:
                run = await reader.run(optimizer.run_id)
                self._mlflow_run = await self._threads.run(lambda: self._begin(run))
            match event:
                case StepClosed():
                    spending = await reader.ask(score_queries.spending_by_step, optimizer.run_id, [event.step])
                    await self._log_metrics(event.step, metrics_of(event, spending[0] if spending else None))
                case ProgramPublished():
                    await self._register_prompts(optimizer, (await reader.run(optimizer.run_id)).prompts, event)
                case RunFinished():
                    await self._finish(await optimizer.result())
                case RunFailed(reason=reason):
                    await self._on_client(lambda client, run: client.set_tag(run, "simba_actors.reason", reason))
                    await self._on_client(lambda client, run: client.set_terminated(run, "FAILED"))
                case _:
                    pass

    async def _on_client(self, call: Callable[[Any, str], R]) -> R:
        """Return `call(client, run)`, called in a thread: MLflow's calls block."""
        client, run = self._client, cast("str", self._mlflow_run)
        return await self._threads.run(lambda: call(client, run))

    def _begin(self, run: Run) -> str:
        """Return the run in MLflow: the one that an earlier process made for this run, or a new one."""
        known = self._client.get_experiment_by_name(self._experiment)
        experiment = known.experiment_id if known is not None else self._client.create_experiment(self._experiment)
        earlier = self._client.search_runs([experiment], f"tags.`{TAG}` = '{_quoted(run.run_id)}'", max_results=1)
        if earlier:
            self._client.update_run(earlier[0].info.run_id, "RUNNING")
            return earlier[0].info.run_id
        made = self._client.create_run(experiment, run_name=run.run_id, tags={TAG: run.run_id})
        for name, value in parameters_of(run).items():
            self._client.log_param(made.info.run_id, name, value)
        return made.info.run_id

    async def _log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        def log(client: Any, run: str) -> None:
            for name, value in metrics.items():
                client.log_metric(run, name, value, step=step + 1)

        await self._on_client(log)

    async def _finish(self, result: Any) -> None:
        final: dict[str, float] = {"score": result.score, "calls": result.usage.calls}
        if result.student is not None:
            final["student_score"] = result.student.score
        await self._log_metrics(result.steps - 1, final)
        await self._on_client(lambda client, run: client.log_text(run, str(result), "result.txt"))
        if self._log_program:
            await self._on_client(lambda client, run: _log_program(client, run, result.program))
        await self._on_client(lambda client, run: client.set_terminated(run, "FINISHED"))

    async def _register_prompts(self, optimizer: Watched, prompts: Mapping[str, JSON], event: ProgramPublished) -> None:
        async with await Channel.open(optimizer.store, event.channel) as channel:
            configuration = await channel.configuration(event.version)
        program = "a program" if event.source is None else f"program {event.program} of run {event.source}"
        reason = f"{program}: {event.reason}"

        def register(client: Any, run: str) -> None:
            for predictor, messages in _chat_prompts(configuration, prompts):
                name = _registry_name(f"{event.channel}.{predictor}")
                version = client.register_prompt(name, messages, commit_message=reason).version
                client.set_prompt_alias(name, f"version-{event.version}", version)
                if event.kind != "canary":
                    client.set_prompt_alias(name, "served", version)

        await self._on_client(register)


def parameters_of(run: Run) -> dict[str, str]:
    """Return the parameters of a run as text: its settings, the student, the trainset, the metric and the LMs."""
    found: dict[str, str] = {}
    for name, value in {**run.fingerprint, **run.settings}.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for key, part in parts:
            if part is not None:
                found[_registry_name(f"{name}.{key}" if key else name)] = str(part)[:LONGEST_VALUE]
    return found


def metrics_of(event: StepClosed, spending: StepSpending | None) -> dict[str, float]:
    """Return the metrics at the end of a step, by their names in MLflow."""
    values: dict[str, float | None] = {"step_score": event.score, "sampled_mean": event.sampled_mean}
    if spending is not None:
        values |= {
            "calls": spending.calls,
            "tokens": spending.tokens,
            "cost": spending.cost,
            "seconds": spending.seconds,
        }
        if spending.best is not None:
            values |= {"best": spending.best.score, "best_low": spending.best.low, "best_high": spending.best.high}
    return {name: float(value) for name, value in values.items() if value is not None}


def _chat_prompts(configuration: Configuration, prompts: Mapping[str, JSON]) -> Iterator[tuple[str, Any]]:
    """Yield each predictor's messages with its inputs as variables, or its instructions if they can't be written."""
    for predictor in configuration.predictors:
        if predictor in prompts:
            yield predictor, PromptTemplate.from_json(prompts[predictor]).with_placeholders(configuration, predictor)
        else:
            yield predictor, configuration.instructions(predictor)


def _log_program(client: Any, run: str, program: dspy.Module) -> None:
    mlflow_dspy = import_extra("mlflow.dspy", extra="mlflow", user="MLflowCallback")
    with tempfile.TemporaryDirectory(prefix="simba_actors-") as directory, dspy.context(lm=None):
        path = Path(directory) / "program"
        requirements = [f"dspy=={dspy.__version__}"]
        mlflow_dspy.save_model(
            _without_keys(program), str(path), use_dspy_model_save=True, pip_requirements=requirements
        )
        client.log_artifacts(run, str(path), "program")


def _without_keys(program: dspy.Module) -> dspy.Module:
    """Return a copy whose LMs have no credentials: they find them in the environment where it is loaded."""
    lms = {id(lm): _keyless(lm) for lm in lms_within(program)}
    return Copier(program, lms).copy()[0]


def _keyless(lm: Any) -> Any:
    keyless = lm.copy()
    keyless.kwargs = {name: value for name, value in lm.kwargs.items() if not _may_be_secret(name)}
    return keyless


def _may_be_secret(name: str) -> bool:
    named_so = SECRET_SETTINGS.search(name) is not None and NOT_SECRET.search(name) is None
    return named_so or name.endswith("headers")


def _registry_name(name: str) -> str:
    """Return `name` without the characters that MLflow does not take in names of parameters and prompts."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)


def _quoted(text: str) -> str:
    return json.dumps(text)[1:-1].replace("'", "\\'")
