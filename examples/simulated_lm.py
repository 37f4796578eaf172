"""An LM that needs no model and no key, so that each recipe runs anywhere and ends the same way every time.

    lm = choose_lm(SimulatedLM(expert, novice))  # or what `--model openai/gpt-4o-mini` names on the command line

`expert` and `novice` turn the inputs in a prompt into outputs, both as dicts. The LM answers like the expert if its
prompt has a demo or its `rule`, and otherwise like the novice, except for lucky samples: SIMBA learns from those.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import warnings
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import dspy

Answer = Callable[[dict[str, str]], Mapping[str, Any]]

GUIDED, LUCKY = 0.95, 0.3
"""Chances of an expert's answer with a demo or the rule, and of one that is sampled without them."""


def choose_lm(simulated: dspy.BaseLM) -> dspy.BaseLM:
    """Return the model that the command line names with `--model`, or else the simulated one."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--model", help="any model that DSPy takes, such as openai/gpt-4o-mini; by default a simulation"
    )
    parser.add_argument("--api-base", help="the address of the model's API, if it is not the provider's own")
    named = parser.parse_args()
    return simulated if named.model is None else dspy.LM(named.model, api_base=named.api_base)


class SimulatedLM(dspy.BaseLM):
    """Replies as a fixed function of the prompt, the temperature and the rollout id, in the format of ChatAdapter."""

    def __init__(self, expert: Answer, novice: Answer, rule: str = "Answer as the examples do.") -> None:
        super().__init__("simulated/lm", cache=False)
        # DSPy advises to write an engine, but an engine does not see the rollout id, on which the replies depend.
        warnings.filterwarnings("ignore", "Implementing custom LMs", DeprecationWarning)
        self.expert, self.novice, self.rule = expert, novice, rule

    def forward(self, prompt: str | None = None, messages: Any = None, **settings: Any) -> Any:
        texts = [str(message["content"]) for message in messages]
        inputs, _, request = texts[-1].rpartition("Respond with ")
        values = self._values(texts, _fields(inputs), settings)
        asked = [name for name in re.findall(r"\[\[ ## (\w+) ## \]\]", request) if name != "completed"]
        reply = "\n\n".join([f"[[ ## {name} ## ]]\n{_text(values[name])}" for name in asked])
        words = sum(len(text.split()) for text in texts), len(reply.split())
        return SimpleNamespace(
            choices=[SimpleNamespace(message=SimpleNamespace(content=reply), finish_reason="stop")],
            usage={"prompt_tokens": words[0], "completion_tokens": words[1], "total_tokens": sum(words)},
            model=self.model,
        )

    async def aforward(self, prompt: str | None = None, messages: Any = None, **settings: Any) -> Any:
        return self.forward(prompt, messages, **settings)

    def _values(self, texts: list[str], inputs: dict[str, str], settings: dict[str, Any]) -> Mapping[str, Any]:
        if "module_names" in inputs:  # Asked by LearnFromFailures.
            return {
                "discussion": "",
                "module_advice": dict.fromkeys(re.findall(r"[\w.]+", inputs["module_names"]), self.rule),
            }
        if "rules" in inputs:  # Asked by MergeRules.
            return {"merged_rules": [self.rule]}
        guided = len(texts) > 2 or self.rule in texts[0]
        chance = GUIDED if guided else LUCKY if settings.get("temperature") else 0.0
        return self.expert(inputs) if _draw(texts, settings) < chance else self.novice(inputs)


def _fields(text: str) -> dict[str, str]:
    """Return the values in a prompt by the names of their fields."""
    parts = re.split(r"\[\[ ## (\w+) ## \]\]\n", text)
    return {name: value.strip() for name, value in zip(parts[1::2], parts[2::2], strict=True)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _draw(texts: list[str], settings: dict[str, Any]) -> float:
    """Return a number from 0 to 1 that looks random and is the same for the same call."""
    call = repr((texts, settings.get("temperature"), settings.get("rollout_id")))
    return int.from_bytes(hashlib.sha256(call.encode()).digest()[:8]) / 2**64
