"""The private API of DSPy that this package relies on, and a check that the installed DSPy has it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import dspy

from simba_actors.errors import UnsupportedDSPyError

SUPPORTED = "dspy>=3.4,<3.5"


@dataclass(frozen=True, slots=True)
class Member:
    """A function, constant or attribute of DSPy that this package uses."""

    path: str
    """Module and qualified name, with a colon between them."""

    parameters: str | None = None
    """Parameters of a function without annotations, as in "(self, signature)"."""

    holds: Callable[[Any], bool] | None = None
    """Check of a member that is not a function: whether it is as this package expects."""

    @property
    def name(self) -> str:
        """The member's full name, such as "dspy.clients.execution.prepare"."""
        return self.path.replace(":", ".")

    def find(self) -> Any:
        """Return the member. Raises ImportError or AttributeError if there is none."""
        module, _, names = self.path.partition(":")
        found: Any = importlib.import_module(module)
        for name in names.split("."):
            found = getattr(found, name)
        return found


def _uses(*names: str) -> Callable[[Any], bool]:
    """Return a check that a function uses these names."""
    return lambda function: set(names).issubset(function.__code__.co_names)


def _has_settings(*names: str) -> Callable[[Any], bool]:
    return lambda settings: set(names).issubset(settings)


MEMBERS = (
    # reply_cache
    Member("dspy.clients.execution:prepare", "(lm, prompt, messages, kwargs, *, asynchronous=False, direct=False)"),
    Member("dspy.clients.execution:PreparedCall", holds=lambda call: "cache" in call.__dataclass_fields__),
    Member("dspy.clients.execution:PreparedCall.key", "(self, lm, asynchronous)"),
    Member(
        "dspy.clients.execution:IGNORED_CACHE_KEYS",
        holds=lambda keys: isinstance(keys, list) and "api_key" in keys,
    ),
    Member("dspy.clients.cache:Cache.get", "(self, request, ignored_args_for_cache_key=None)"),
    # prompt_cache
    *(
        Member(f"dspy:{adapter}.{method}", parameters)
        for adapter in ("ChatAdapter", "JSONAdapter", "XMLAdapter")
        for method, parameters in (
            ("format_system_message", "(self, signature)"),
            (
                "format_user_message_content",
                "(self, signature, inputs, prefix='', suffix='', main_request=False)",
            ),
            ("format_assistant_message_content", "(self, signature, outputs, missing_field_message=None)"),
            ("format_demos", "(self, signature, demos)"),
        )
    ),
    # default_adapter
    Member("dspy:Predict.forward", holds=_uses("ChatAdapter")),
    Member("dspy:Predict.aforward", holds=_uses("ChatAdapter")),
    # streaming, settings
    Member(
        "dspy.dsp.utils.settings:DEFAULT_CONFIG",
        holds=_has_settings(
            "send_stream", "stream_listeners", "caller_modules", "usage_tracker", "max_trace_size", "max_history_size"
        ),
    ),
    Member("dspy.dsp.utils.settings:Settings.copy", "(self)"),
    Member("dspy.dsp.utils.settings:thread_local_overrides", holds=lambda overrides: isinstance(overrides, ContextVar)),
    Member("dspy.clients.engines.streaming:ListenerBridge", "(model, predict_id=None)"),
    # engines
    Member("dspy:LM.__init__", holds=_uses("_engine_spec", "_async_engine_spec")),
    Member("dspy:BaseLM.update_history", "(self, entry)"),
    # lm_calls
    Member("dspy:BaseLM.__call__", "(self, prompt=None, *, messages=None, **kwargs)"),
    Member("dspy:BaseLM.acall", "(self, prompt=None, *, messages=None, **kwargs)"),
    Member("dspy.clients._deprecation:_adapter_call", holds=lambda mark: isinstance(mark, ContextVar)),
    # prices
    Member("dspy.clients.capabilities:resolve", "(lm)"),
    Member(
        "dspy.clients.costs:estimate_cost", "(response, *, provider, requested_model, request=None, namespaces=None)"
    ),
    # model_facts
    Member("dspy.clients.costs:model_info", "(provider, model, *, namespaces=None)"),
    Member("dspy.clients.capabilities:planning_scope", "(lm, options)"),
    Member("dspy.clients.capabilities:_planning", holds=lambda scope: isinstance(scope, ContextVar)),
    Member(
        "dspy.clients.capabilities:_PlanningScope",
        holds=lambda scope: list(scope.__dataclass_fields__) == ["lm", "options", "value"],
    ),
    Member("dspy.clients.backend_selection:CLIENT_KEYS", holds=lambda keys: "api_base" in keys),
    # predictor_names
    Member("dspy:Predict.__init__", holds=_uses("stage")),
    # custom_types
    Member("dspy.adapters.types.base_type:CUSTOM_TYPE_START_IDENTIFIER", holds=lambda mark: isinstance(mark, str)),
    Member("dspy.adapters.types.base_type:CUSTOM_TYPE_END_IDENTIFIER", holds=lambda mark: isinstance(mark, str)),
    # simba
    Member("dspy.teleprompt.simba_utils:inspect_modules", "(program)"),
    Member(
        "dspy.teleprompt.simba_utils:OfferFeedback",
        holds=lambda signature: "module_advice" in signature.output_fields,
    ),
)


def check_dspy() -> None:
    """Check that the installed DSPy has every member that this package uses. Takes about a millisecond.

    Raises:
        UnsupportedDSPyError: Something is missing or different; the message names it and the supported versions.
    """
    for member in MEMBERS:
        problem = _problem(member)
        if problem is not None:
            raise UnsupportedDSPyError(
                f"{member.name} {problem} in the installed DSPy {dspy.__version__}, and simba_actors depends on it: "
                f"install {SUPPORTED}, or a simba_actors that supports this DSPy"
            )


def _problem(member: Member) -> str | None:
    try:
        found = member.find()
        if member.parameters is not None:
            actual = inspect.signature(found)
            same = _shape(actual) == _shape(_parsed(member.parameters))
            return None if same else f"takes {actual} in place of {member.parameters}"
        if member.holds is not None and not member.holds(found):
            return "has changed"
    except (ImportError, AttributeError):
        return "does not exist"
    except (TypeError, ValueError):
        return "has changed"
    return None


def _parsed(parameters: str) -> inspect.Signature:
    namespace: dict[str, Any] = {}
    exec(f"def function{parameters}: ...", namespace)  # noqa: S102 - a constant of this file
    return inspect.signature(namespace["function"])


def _shape(signature: inspect.Signature) -> list[tuple[str, Any, bool]]:
    empty = inspect.Parameter.empty
    return [(p.name, p.kind, p.default is not empty) for p in signature.parameters.values()]
