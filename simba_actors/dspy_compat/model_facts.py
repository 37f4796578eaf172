"""What DSPy knows about models, looked up once in a run instead of several times in each call.

DSPy looks into its list of models in every call: once for what the LM can do, and once or twice for its price. For a
model that the list does not have, such as one on your own server, it searches the whole list each time.

This saves 12 % of the CPU time of a rollout with one real LM call, and half of it if the list does not have the model.
See tests/benchmarks/README.md.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from copy import copy
from os import environ
from typing import Any, cast

from dspy.clients import backend_selection, capabilities, costs

from simba_actors.dspy_compat.prompt_cache import STOCK_ADAPTERS
from simba_actors.runtime.replacement import Replacement

FACTS_KEPT = 64
"""Maximum number of LMs, by model and settings, whose facts are kept. A run uses few."""


def with_known_capabilities(adapter: Any) -> Any:
    """Return a copy of a stock `adapter` whose async calls ask only once what an LM with the same settings can do.

        with dspy.context(adapter=with_known_capabilities(dspy.ChatAdapter())):
            ...

    DSPy looks that up in a thread before each async call. Any other adapter is returned as it is.
    """
    if type(adapter) not in STOCK_ADAPTERS:
        return adapter
    copied = copy(adapter)
    known: dict[Hashable, Any] = {}
    acall = copied.acall
    planning: Any = capabilities

    async def planned(lm: Any, lm_kwargs: dict[str, Any], *args: Any, **options: Any) -> Any:
        key = _settings_of(lm, lm_kwargs)
        if key is None:
            return await acall(lm, lm_kwargs, *args, **options)
        with planning.planning_scope(lm, lm_kwargs):
            scope = planning._planning.get()
            if scope.value is None:
                scope.value = known.get(key)
            try:
                return await acall(lm, lm_kwargs, *args, **options)
            finally:
                if scope.value is not None and key not in known:
                    _keep(known, key, scope.value)

    copied.acall = planned
    return copied


def _settings_of(lm: Any, options: Mapping[str, Any]) -> Hashable | None:
    """Return what the LM's capabilities depend on; None if that may change, or if the LM itself states them."""
    engine = getattr(lm, "_engine_spec", None)
    if not isinstance(engine, str):
        return None
    clients: dict[str, Any] = {**lm.kwargs, **options}
    names: Iterable[str] = cast("Any", backend_selection).CLIENT_KEYS
    prefix = str(lm.model).split("/", 1)[0].upper()
    key = (
        engine,
        lm.model,
        lm.model_type,
        getattr(lm, "_providers", ()),
        tuple((name, clients[name]) for name in names if name in clients),
        # DSPy leaves a provider with an address in the environment to LiteLLM.
        environ.get(f"{prefix}_API_BASE"),
        environ.get(f"{prefix}_BASE_URL"),
    )
    try:
        hash(key)
    except TypeError:
        return None
    return key


def remember_prices() -> Callable[[], None]:
    """Have DSPy look up the prices of each model once in this process. Return a function that undoes it; call it once.

    DSPy has no setting for this. Therefore the first use replaces the function that DSPy calls, and undoing the last
    one restores it.
    """
    return _prices.begin()


def _remembered(look_up: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    known: dict[Hashable, dict[str, Any]] = {}

    def model_info(provider: Any, model: Any, *, namespaces: Iterable[str] | None = None) -> dict[str, Any]:
        names = None if namespaces is None else tuple(namespaces)
        key = (provider, model, names)
        info = known.get(key)
        if info is None:
            info = look_up(provider, model, namespaces=names)
            _keep(known, key, info)
        return dict(info)

    return model_info


_prices = Replacement(costs, "model_info", _remembered)


def _keep(known: dict[Hashable, Any], key: Hashable, value: Any) -> None:
    if len(known) >= FACTS_KEPT:
        known.clear()
    known[key] = value
