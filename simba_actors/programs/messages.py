"""The prompt of a configuration as chat messages, where the student's code is not available."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import dspy

from simba_actors.programs.configuration import Configuration
from simba_actors.search.rollout import JSON

logger = logging.getLogger(__name__)

AFTER_DESCRIPTION = r"\d+\. `|Your output fields are:|Constraints: |    Type description of "
"""How the lines begin that DSPy writes after the description of a field."""

ADAPTERS: Mapping[str, type[Any]] = {"ChatAdapter": dspy.ChatAdapter, "JSONAdapter": dspy.JSONAdapter}
"""DSPy's adapters whose prompts consist of a fixed text about the fields, the instructions, and values."""


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The parts of a predictor's prompt that depend on the types of its fields, as its adapter writes them.

        template = PromptTemplate.of(predictor.signature, dspy.ChatAdapter())
        messages = template.messages("Answer in one word.", demos, {"question": "What is 1 + 1?"})

    It is plain data, so the messages can be written where the student's types are not available.
    """

    adapter: str
    """The adapter's class, one of `ADAPTERS`."""
    inputs: tuple[str, ...]
    """Names of the input fields, in order."""
    outputs: tuple[str, ...]
    """Names of the output fields, in order."""
    texts: tuple[str, ...]
    """Names of the fields whose type is str. DSPy writes a list in such a field as a numbered list."""
    description: str
    """The list of fields that begins the system message."""
    structure: str
    """The description of the format that follows it."""
    requirements: str
    """The reminder of the format that ends the last message."""

    @classmethod
    def of(cls, signature: Any, adapter: Any) -> PromptTemplate | None:
        """Return the template of a signature; None if this adapter's prompts can't be written without the types."""
        fields: dict[str, Any] = signature.fields
        if type(adapter) not in ADAPTERS.values() or any(field.annotation is dspy.History for field in fields.values()):
            return None
        return cls(
            type(adapter).__name__,
            tuple(signature.input_fields),
            tuple(signature.output_fields),
            tuple(name for name, field in fields.items() if field.annotation is str),
            adapter.format_field_description(signature),
            adapter.format_field_structure(signature),
            adapter.user_message_output_requirements(signature),
        )

    @classmethod
    def from_json(cls, stored: JSON) -> PromptTemplate:
        """Return the template that `to_json` made `stored` from."""
        values = dict(cast("dict[str, Any]", stored))
        lists = {name: tuple(values.pop(name)) for name in ("inputs", "outputs", "texts")}
        return cls(**lists, **values)

    def to_json(self) -> JSON:
        """Return the template as plain JSON."""
        lists: dict[str, JSON] = {
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "texts": list(self.texts),
        }
        return asdict(self) | lists

    def messages(
        self, instructions: str, demos: Iterable[Mapping[str, JSON]], inputs: Mapping[str, JSON]
    ) -> list[dict[str, str]]:
        """Return the messages that DSPy sends for `inputs`, each with "role" and "content"."""
        template = self

        class Recorded(ADAPTERS[self.adapter]):
            def format_field_description(self, signature: Any) -> str:
                return template.description

            def format_field_structure(self, signature: Any) -> str:
                return template.structure

            def user_message_output_requirements(self, signature: Any) -> str:
                return template.requirements

        return _formatted(Recorded(), self.inputs, self.outputs, self.texts, instructions, demos, inputs)

    def with_descriptions(self, descriptions: Mapping[str, str]) -> PromptTemplate:
        """Return the template with these descriptions of fields in place of the original ones."""
        text = self.description
        for field, description in descriptions.items():
            written = "" if description == f"${{{field}}}" else description
            entry = re.compile(rf"^(\d+\. `{field}` \(.*?\):).*(?:\n(?!{AFTER_DESCRIPTION}).*)*", re.MULTILINE)
            text = entry.sub(lambda found, written=written: f"{found[1]} {written}", text)
        return replace(self, description=text.strip())

    def with_placeholders(self, configuration: Configuration, predictor: str) -> list[dict[str, str]]:
        """Return the messages of a configuration's predictor, with "{{name}}" for the value of each input."""
        inputs: dict[str, JSON] = {name: f"{{{{{name}}}}}" for name in self.inputs}
        template = self.with_descriptions(configuration.descriptions(predictor))
        return template.messages(configuration.instructions(predictor), configuration.demos(predictor), inputs)


def prompt_templates(predictors: Mapping[str, Any], adapter: Any) -> dict[str, JSON]:
    """Return the templates of predictors by name, as JSON, without those that can't be made."""
    templates: dict[str, JSON] = {}
    for name, predictor in predictors.items():
        try:
            template = PromptTemplate.of(predictor.signature, adapter)
        except Exception as error:  # noqa: BLE001 - a field may have any type, and DSPy fails at some
            logger.warning("the prompt of %s will be shown without its types: %s", name, error)
            continue
        if template is not None:
            templates[name] = template.to_json()
    return templates


def prompt_messages(
    configuration: Configuration, predictor: str, inputs: Mapping[str, JSON], outputs: Iterable[str], template: JSON
) -> list[dict[str, str]]:
    """Return the messages that DSPy sends for one call of a predictor, with "role" and "content".

        messages = prompt_messages(configuration, "self", {"question": "What is 1 + 1?"}, ["answer"], template)

    Args:
        configuration: Gives the instructions and demos.
        predictor: The predictor's name in the student.
        inputs: The values of its input fields.
        outputs: The names of its output fields.
        template: The predictor's stored template. Without one, all fields are text: a student with typed fields sends
            the same messages with a remark about the type at each field.
    """
    instructions, demos = configuration.instructions(predictor), configuration.demos(predictor)
    if template is not None:
        described = PromptTemplate.from_json(template).with_descriptions(configuration.descriptions(predictor))
        return described.messages(instructions, demos, inputs)
    outputs = tuple(outputs)
    return _formatted(dspy.ChatAdapter(), inputs, outputs, (*inputs, *outputs), instructions, demos, inputs)


def _formatted(
    adapter: Any,
    inputs: Iterable[str],
    outputs: Iterable[str],
    texts: Collection[str],
    instructions: str,
    demos: Iterable[Mapping[str, JSON]],
    values: Mapping[str, JSON],
) -> list[dict[str, str]]:
    fields: dict[str, Any] = {name: (str if name in texts else Any, dspy.InputField()) for name in inputs}
    fields |= {name: (str if name in texts else Any, dspy.OutputField()) for name in outputs}
    signature: Any = dspy.Signature(fields, instructions)  # pyright: ignore[reportArgumentType, reportCallIssue] - DSPy documents this form
    return [
        {"role": str(message["role"]), "content": str(message["content"])}
        for message in adapter.format(signature, [dict(demo) for demo in demos], dict(values))
    ]
