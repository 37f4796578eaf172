"""Ask the prompt model for better descriptions of fields, and other texts that the student holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import dspy

from simba_actors.programs import Configuration
from simba_actors.strategies.contract import Declined, StrategyContext
from simba_actors.strategies.failures_prompt import failure_prompts, failures_signature
from simba_actors.strategies.rule_prompt import Prompt, as_prompt, ask_for_advice

QUESTION = """You will be given runs of a language program that went badly, and beside them better runs of the same
inputs if there are any. The program's prompts contain the texts in `texts`, by name: descriptions of the fields of its
modules, and others. Write those of them anew that can help the program to do better on inputs like these. Say what the
program needs to know about the field or the step that the text is for. Keep what is right in it, do not mention these
runs, and leave out texts that are good as they are."""


@dataclass(frozen=True, slots=True)
class RewriteTexts:
    """New texts in place of some of the student's: descriptions of fields, and strings that its modules hold.

        space = ConfigurationSpace.from_module(student, settings={"answer.question.desc": Text()})
        config = OptimizerConfig(…, space=space, strategies=[RewriteTexts(space.texts), Recombine()])

    It is one of the default strategies if the space has texts. Each new text is a part like any rule: the adaptive
    policy estimates what it adds, and combines it with others. The prompt model sees the same runs as for
    `LearnFromFailures`.
    """

    names: tuple[str, ...]
    """Full names of the texts, as in `ConfigurationSpace.texts`."""

    @property
    def name(self) -> str:
        return "rewrite_texts"

    def applicable(self, context: StrategyContext) -> Declined | None:
        if not context.buckets:
            return Declined("there is no example to learn from")
        if not self._known(context.source):
            return Declined("the configuration has none of the texts to rewrite: name them in the settings of `space`")
        return None

    async def apply(self, context: StrategyContext) -> Configuration | Declined:
        known = self._known(context.source)
        prompts = await context.in_thread(lambda: _prompts(context, known))
        written = await ask_for_advice(context.prompt_model, _signature(), prompts, "new_texts")
        configuration = context.source
        for name, text in written.items():
            if name in known and text.strip():
                configuration = configuration.with_setting(name, text.strip())
        return Declined("no text is new") if configuration == context.source else configuration

    def _known(self, configuration: Configuration) -> dict[str, str]:
        """Return the texts as they are in the configuration, by name; those that it does not have are left out."""
        return {name: cast("str", configuration.values[name]) for name in self.names if name in configuration.values}


@cache
def _signature() -> type[dspy.Signature]:
    signature: Any = failures_signature()
    signature = signature.with_instructions(QUESTION).delete("module_names").delete("module_advice")
    signature = signature.append("texts", dspy.InputField(desc="The texts as they are now, by name"), str)
    new_texts = dspy.OutputField(desc="New texts by name, only those that should change")
    return signature.append("new_texts", new_texts, dict[str, str])


def _prompts(context: StrategyContext, known: dict[str, str]) -> list[Prompt]:
    texts = as_prompt({"texts": dict(known)})
    return [
        {name: text for name, text in prompt.items() if name != "module_names"} | texts
        for prompt in failure_prompts(context)
    ]
