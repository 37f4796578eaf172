"""Ask the prompt model what distinguishes a bucket's best trajectory from its worst, and add the answer as a rule."""

from __future__ import annotations

from dataclasses import dataclass

from simba_actors.dspy_compat.simba import inspect_modules, offer_feedback
from simba_actors.programs import Configuration, to_json_value
from simba_actors.strategies.contract import Declined, StrategyContext
from simba_actors.strategies.rule_prompt import Prompt, as_prompt, ask_for_advice, program_code, run_fields, withheld


@dataclass(frozen=True, slots=True)
class AppendARule:
    """`dspy.SIMBA`'s append_a_rule: advice for each predictor, appended to its instructions, in DSPy's own words."""

    @property
    def name(self) -> str:
        return "append_a_rule"

    def applicable(self, context: StrategyContext) -> Declined | None:
        bucket, statistics = context.buckets[0], context.statistics
        best, worst = bucket.best.trajectory.score, bucket.worst.trajectory.score
        if best <= statistics.p10:
            return Declined(f"the best score of the bucket, {best}, is not above the 10th percentile, {statistics.p10}")
        if worst >= statistics.p90:
            return Declined(
                f"the worst score of the bucket, {worst}, is not below the 90th percentile, {statistics.p90}"
            )
        return None

    async def apply(self, context: StrategyContext) -> Configuration | Declined:
        prompt = await context.in_thread(lambda: self._prompt(context))
        advice = await ask_for_advice(context.prompt_model, offer_feedback(), [prompt])
        configuration = context.source
        for predictor in configuration.predictors:
            if predictor in advice:
                instructions = f"{configuration.instructions(predictor)}\n\n{advice[predictor]}"
                configuration = configuration.with_instructions(predictor, instructions)
        return configuration

    def _prompt(self, context: StrategyContext) -> Prompt:
        bucket, example = context.buckets[0], context.examples[0]
        worse = run_fields(bucket.worst.trajectory)
        better = run_fields(bucket.best.trajectory)
        if bucket.best.trajectory.score <= bucket.worst.trajectory.score:
            # DSPy withholds the better run of a tie; in a bucket of one that is the worse run too.
            better = withheld(better)
            if bucket.best is bucket.worst:
                worse = better
        return as_prompt(
            {
                "program_code": program_code(context.program),
                "modules_defn": inspect_modules(context.program),
                "program_inputs": to_json_value(dict(example.inputs())),
                "oracle_metadata": to_json_value(dict(example.labels())),
                **{f"better_{name}": value for name, value in better.items()},
                **{f"worse_{name}": value for name, value in worse.items()},
                "module_names": list(context.source.predictors),
            }
        )
