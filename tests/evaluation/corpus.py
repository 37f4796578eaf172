"""Students of many kinds with inputs. Plain DSPy defines the right behaviour of each."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import dspy
import numpy as np
import pydantic
from dspy._vendor.lm15.types import StreamDeltaEvent, StreamEndEvent, StreamEvent, StreamStartEvent, TextDelta
from dspy.adapters.baml_adapter import BAMLAdapter
from dspy.lm15 import Message, Request, Response, TextPart, Usage

from tests.support.scripted_lm import Ask, reply_text

QA: Any = "question -> answer"
STYLED: Any = "question, style -> reasoning, answer"


class Recorder:
    """An engine whose answers follow from the requested fields. It keeps each request as text."""

    def __init__(self, requests: list[str], say: Callable[[Ask], Any]) -> None:
        self.requests = requests
        self.say = say

    def complete(self, request: Request) -> Response:
        self.requests.append(repr(request))
        ask = Ask(
            system=_text(request.system),
            messages=tuple((message.role, message.text or "") for message in request.messages),
            temperature=request.config.temperature,
            rollout_id=None,
        )
        message = Message.assistant([TextPart(reply_text(ask, self.say(ask)))])
        usage = Usage(input_tokens=1, output_tokens=1, total_tokens=2)
        return Response(id=None, model="corpus", message=message, finish_reason="stop", usage=usage)

    def stream(self, request: Request) -> Iterator[StreamEvent]:
        response = self.complete(request)
        yield StreamStartEvent(model=response.model)
        text = response.message.text or ""
        for start in range(0, len(text), 7):
            yield StreamDeltaEvent(TextDelta(text[start : start + 7]))
        yield StreamEndEvent(finish_reason="stop", usage=response.usage)


class AsyncRecorder:
    def __init__(self, engine: Recorder) -> None:
        self.engine = engine

    async def complete(self, request: Request) -> Response:
        await asyncio.sleep(0)
        return self.engine.complete(request)

    async def stream(self, request: Request) -> AsyncIterator[StreamEvent]:
        for event in self.engine.stream(request):
            await asyncio.sleep(0)
            yield event


def _text(system: Any) -> str:
    return system if isinstance(system, str) else "".join(part.text for part in system or ())


def recorded_lm(requests: list[str], say: Callable[[Ask], Any], model: str = "corpus/lm", **kwargs: Any) -> dspy.LM:
    engine: Any = Recorder(requests, say)
    return dspy.LM(model, engine=engine, async_engine=cast("Any", AsyncRecorder(engine)), cache=False, **kwargs)


def say(ask: Ask) -> Any:
    """Return values for the requested fields."""
    if "wrapped in XML" in ask.last or "XML" in ask.system:
        return "<reasoning>\nSo.\n</reasoning>\n<answer>\nParis\n</answer>"
    return {name: _value(name, ask) for name in ask.fields}


def _value(name: str, ask: Ask) -> Any:
    match name:
        case "next_tool_name":
            return "finish" if "Found it" in ask.last else "search"
        case "next_tool_args":
            return {} if "Found it" in ask.last else {"query": "capital"}
        case "city":
            return {"name": "Paris", "people": 2}
        case "cities":
            return [{"name": "Paris", "people": 2}]
        case "count" | "number":
            return 7
        case "kind":
            return "city"
        case "sure" | "finished":
            return True
        case "tool_calls" | "outputs":
            return {"tool_calls": [{"name": "search", "args": {"query": "capital"}}]}
        case "history_summary" | "search_query":
            return f"about {len(ask.messages)} messages"
        case "advice":
            return {}
        case _:
            return f"{name} of {len(ask.prompt) % 97}"


@dataclass(frozen=True)
class Kind:
    """A kind of student: a function that makes it, given an LM if it takes one, and its inputs."""

    name: str
    make: Callable[[Callable[[str], Any]], Any]
    inputs: dict[str, Any] = field(default_factory=lambda: {"question": "Which city?"})
    say: Callable[[Ask], Any] = say
    settings: Callable[[Callable[[str], Any]], dict[str, Any]] = lambda lm: {}
    """Settings for `dspy.context`."""
    in_order: bool = True
    """Whether the order of its requests is always the same."""
    asynchronous: bool = False
    """Whether DSPy can run it only with `acall`."""


class City(pydantic.BaseModel):
    name: str
    people: int


class Typed(dspy.Signature):
    """Find the city."""

    question: str = dspy.InputField()
    city: City = dspy.OutputField()
    cities: list[City] = dspy.OutputField()
    kind: Literal["city", "river"] = dspy.OutputField()
    count: int = dspy.OutputField()
    sure: bool = dspy.OutputField()


class Looks(dspy.Signature):
    """Look at it."""

    image: dspy.Image = dspy.InputField()
    answer: str = dspy.OutputField()


class Listens(dspy.Signature):
    audio: dspy.Audio = dspy.InputField()
    answer: str = dspy.OutputField()


class Reads(dspy.Signature):
    file: dspy.File = dspy.InputField()
    answer: str = dspy.OutputField()


class Chats(dspy.Signature):
    question: str = dspy.InputField()
    history: dspy.History = dspy.InputField()
    answer: str = dspy.OutputField()


class UsesTools(dspy.Signature):
    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    outputs: dspy.ToolCalls = dspy.OutputField()


def search(query: str) -> str:
    """Search for something."""
    return f"Found it: {query}"


async def search_async(query: str) -> str:
    """Search for something."""
    await asyncio.sleep(0)
    return f"Found it: {query}"


search_async.__name__ = "search"


class Wrapping(dspy.Module):
    """Holds parts, and runs all of them in turn."""

    def __init__(self, held: Any) -> None:
        super().__init__()
        self.held = held

    def parts(self) -> list[Any]:
        held = self.held
        if isinstance(held, dict):
            return list(held.values())
        return [held.part] if isinstance(held, Plain) else list(held)

    def forward(self, question: str) -> dspy.Prediction:
        answers = [part(question=question).answer for part in self.parts()]
        return dspy.Prediction(answer=" ".join(answers))


class Plain:
    """A plain object that holds a module."""

    def __init__(self, part: Any) -> None:
        self.part = part


class TwoStages(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = dspy.Predict("question -> search_query")
        self.answer = dspy.ChainOfThought("question, search_query -> answer")

    def forward(self, question: str) -> Any:
        return self.answer(question=question, search_query=self.query(question=question).search_query)


class AsyncOnly(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict(QA)

    async def aforward(self, question: str) -> Any:
        return await self.ask.acall(question=question)


class Shout(dspy.ChainOfThought):
    def forward(self, **kwargs: Any) -> Any:
        prediction = super().forward(**kwargs)
        prediction.answer = prediction.answer.upper()
        return prediction


class AddsAnInput(dspy.Predict):
    def forward(self, **kwargs: Any) -> Any:
        return super().forward(**{"style": "brief", **kwargs})


class Counting(dspy.Module):
    """Keeps state on itself."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question, count -> answer")
        self.seen: list[str] = []

    def forward(self, question: str) -> Any:
        self.seen.append(question)
        return self.ask(question=question, count=str(len(self.seen)))


class WithContext(dspy.Module):
    """Calls an LM of its own with `dspy.context`, and another one directly."""

    def __init__(self, lm: Any) -> None:
        super().__init__()
        self.cheap = lm
        self.ask = dspy.Predict(QA)

    def forward(self, question: str) -> Any:
        with dspy.context(lm=self.cheap):
            first = self.ask(question=question).answer
        (said,) = self.cheap("Say `answer`.")
        return dspy.Prediction(answer=f"{first} {said}")


class Raises(dspy.Module):
    def __init__(self, after: bool) -> None:
        super().__init__()
        self.ask = dspy.Predict(QA)
        self.after = after

    def forward(self, question: str) -> Any:
        if self.after:
            self.ask(question=question)
        raise KeyError("typo")


class Several(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict(QA, n=3, temperature=1.0)

    def forward(self, question: str) -> Any:
        return dspy.majority(self.ask(question=question).completions)


class Compared(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.ChainOfThought(QA)
        self.compare = dspy.MultiChainComparison(QA, M=2)

    def forward(self, question: str) -> Any:
        completions = [self.ask(question=question, config={"temperature": 0.5 + n}) for n in range(2)]
        return self.compare(completions, question=question)


class InParallel(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict(QA)

    def forward(self, question: str) -> Any:
        pairs = [(self.ask, {"question": f"{question} {n}"}) for n in range(3)]
        answers = cast("Any", dspy.Parallel(num_threads=3, disable_progress_bar=True))(pairs)
        return dspy.Prediction(answer=" ".join(answer.answer for answer in answers))


class Streams(dspy.Module):
    """Listens to a stream of its own predictor."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict(QA)

    async def aforward(self, question: str) -> Any:
        listeners = [dspy.streaming.StreamListener(signature_field_name="answer", allow_reuse=True)]
        stream: Any = dspy.streamify(self.ask, stream_listeners=listeners, is_async_program=True)
        items = [item async for item in stream(question=question)]
        chunks = [item.chunk for item in items if isinstance(item, dspy.streaming.StreamResponse)]
        return dspy.Prediction(answer=items[-1].answer, chunks=len(chunks), streamed="".join(chunks))


class ReturnsText(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict(QA)

    def forward(self, question: str) -> Any:
        return self.ask(question=question).answer


class Retrieves(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.search = dspy.retrievers.Embeddings(
            corpus=["Paris is a city.", "The Seine is a river."], embedder=_embed, k=1
        )
        self.ask = dspy.Predict("question, context: list[str] -> answer")

    def forward(self, question: str) -> Any:
        return self.ask(question=question, context=self.search(question).passages)


def _embed(texts: list[str], **kwargs: Any) -> Any:
    return np.array([[float(len(text)), float(text.count("i")), 1.0] for text in texts])


def rows() -> list[dspy.Example]:
    return [dspy.Example(question=f"Which city {n}?", answer=f"city {n}").with_inputs("question") for n in range(4)]


def brief(args: Any, prediction: Any) -> float:
    return float(len(prediction.answer) < 3)


def shared_twice() -> Any:
    part = dspy.Predict(QA)
    return Wrapping([part, part])


def frozen() -> Any:
    student: Any = Wrapping([dspy.ChainOfThought(QA), dspy.Predict(QA)])
    student.held[0]._compiled = True
    return student


def set_on_the_instance() -> Any:
    student: Any = dspy.ChainOfThought(QA)
    student.forward = types.MethodType(_answer_alone, student)
    return student


def _answer_alone(self: Any, **kwargs: Any) -> Any:
    return dspy.Prediction(answer=self.predict(**kwargs).answer)


def compiled_by(optimizer: Any, student: Any, lm: Any) -> Any:
    with dspy.context(lm=lm):
        return optimizer.compile(student, trainset=rows())


def always(example: Any, prediction: Any, trace: Any = None) -> bool:
    return True


class FakeInterpreter:
    """An interpreter that runs no code, and returns the code that it was given."""

    def __init__(self) -> None:
        self.tools: dict[str, Any] = {}

    def start(self) -> None: ...

    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        return f"{len(code)} characters"

    def shutdown(self) -> None: ...


def by_neighbours() -> Any:
    knn: Any = dspy.KNNFewShot  # Its arguments for BootstrapFewShot are not annotated.
    optimizer = knn(
        2, rows(), dspy.Embedder(_embed, caching=False), metric=always, max_bootstrapped_demos=1, max_labeled_demos=1
    )
    return optimizer.compile(dspy.Predict(QA))


class OwnAdapter(dspy.ChatAdapter):
    pass


class PrefersJSON(dspy.Module):
    """Uses JSON unless the user has set an adapter."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.ChainOfThought(QA)

    def forward(self, question: str) -> Any:
        with dspy.context(adapter=dspy.settings.adapter or dspy.JSONAdapter()):
            return self.ask(question=question)


HISTORY = dspy.History(messages=[{"question": "Which?", "answer": "That."}])
FILE = dspy.File(file_data="data:text/plain;base64,AAAA", filename="x.txt")
WITH_TOOLS = {"question": "Which?", "tools": [dspy.Tool(search)]}
NATIVE = {"adapter": dspy.ChatAdapter(use_native_function_calling=True)}

KINDS = [
    Kind("Predict", lambda lm: dspy.Predict(QA)),
    Kind("Predict with demos", lambda lm: compiled_by(dspy.LabeledFewShot(k=2), dspy.Predict(QA), None)),
    Kind("Predict with settings", lambda lm: dspy.Predict(QA, temperature=0.3, max_tokens=50)),
    Kind("ChainOfThought", lambda lm: dspy.ChainOfThought(QA)),
    Kind("ReAct", lambda lm: dspy.ReAct(QA, tools=[search])),
    Kind("ReAct with an async tool", lambda lm: dspy.ReAct(QA, tools=[search_async]), asynchronous=True),
    Kind("MultiChainComparison", lambda lm: Compared()),
    Kind("BestOfN", lambda lm: dspy.BestOfN(dspy.ChainOfThought(QA), 3, brief, 1.0)),
    Kind("Refine", lambda lm: dspy.Refine(TwoStages(), 2, brief, 1.0)),
    Kind("Parallel", lambda lm: InParallel(), in_order=False),
    Kind("Ensemble", lambda lm: dspy.Ensemble().compile([dspy.Predict(QA), dspy.ChainOfThought(QA)])),
    Kind("LabeledFewShot of two stages", lambda lm: compiled_by(dspy.LabeledFewShot(k=2), TwoStages(), None)),
    Kind(
        "BootstrapFewShot",
        lambda lm: compiled_by(dspy.BootstrapFewShot(metric=always, max_bootstrapped_demos=1), TwoStages(), lm("boot")),
    ),
    Kind("KNNFewShot", lambda lm: by_neighbours()),
    Kind("ProgramOfThought", lambda lm: dspy.ProgramOfThought(QA, interpreter_factory=FakeInterpreter)),
    Kind("CodeAct", lambda lm: dspy.CodeAct(QA, tools=[search], interpreter_factory=FakeInterpreter)),
    Kind("RLM", lambda lm: dspy.RLM(QA, max_iters=2, interpreter_factory=FakeInterpreter)),
    Kind("retriever", lambda lm: Retrieves()),
    Kind("two stages", lambda lm: TwoStages()),
    Kind("nested", lambda lm: Wrapping([Wrapping([dspy.Predict(QA), dspy.ChainOfThought(QA)])])),
    Kind("shared", lambda lm: shared_twice()),
    Kind("in a list", lambda lm: Wrapping([dspy.Predict(QA), dspy.ChainOfThought(QA)])),
    Kind("in a tuple", lambda lm: Wrapping((dspy.Predict(QA), dspy.ChainOfThought(QA)))),
    Kind("in a dict", lambda lm: Wrapping({"a": dspy.Predict(QA), "b": dspy.ReAct(QA, tools=[search])})),
    Kind("in a plain object", lambda lm: _with_predictor(Wrapping(Plain(dspy.Predict(QA))))),
    Kind("aforward alone", lambda lm: AsyncOnly(), asynchronous=True),
    Kind("forward overridden", lambda lm: Shout(QA)),
    Kind("forward overridden below", lambda lm: Wrapping([Shout(QA), Wrapping([Shout(QA)])])),
    Kind("forward of a Predict overridden", lambda lm: AddsAnInput(STYLED)),
    Kind(
        "forward of a part's predictor overridden",
        lambda lm: _chain_of(AddsAnInput("question, style -> reasoning, answer")),
    ),
    Kind("forward on the instance", lambda lm: set_on_the_instance()),
    Kind("state on self", lambda lm: Counting()),
    Kind("typed outputs", lambda lm: dspy.Predict(Typed)),
    Kind("typed outputs with reasoning", lambda lm: dspy.ChainOfThought(Typed)),
    Kind(
        "a reply of the wrong type",
        lambda lm: dspy.Predict("question -> number: float"),
        say=lambda ask: {"number": "many"},
    ),
    Kind("a reply that can't be parsed", lambda lm: dspy.Predict(QA), say=lambda ask: "I would rather not say."),
    Kind("ToolCalls", lambda lm: dspy.Predict(UsesTools), WITH_TOOLS),
    Kind(
        "History",
        lambda lm: dspy.Predict(Chats),
        {"question": "And?", "history": HISTORY},
    ),
    Kind("Image", lambda lm: dspy.Predict(Looks), {"image": dspy.Image("data:image/png;base64,iVBORw0KGgo=")}),
    Kind("Audio", lambda lm: dspy.Predict(Listens), {"audio": dspy.Audio(data="AAAA", audio_format="wav")}),
    Kind(
        "File",
        lambda lm: dspy.Predict(Reads),
        {"file": FILE},
    ),
    Kind("several completions", lambda lm: Several()),
    Kind("an LM of its own", lambda lm: _with_lm(dspy.Predict(QA), lm("own"))),
    Kind("two LMs", lambda lm: Wrapping([_with_lm(dspy.Predict(QA), lm("a")), _with_lm(dspy.Predict(QA), lm("b"))])),
    Kind("an LM of dspy.context", lambda lm: WithContext(lm("cheap"))),
    Kind("an error before a call", lambda lm: Raises(False)),
    Kind("an error after a call", lambda lm: Raises(True)),
    Kind("frozen parts", lambda lm: frozen()),
    Kind("text in place of a prediction", lambda lm: ReturnsText()),
    Kind("JSONAdapter", lambda lm: dspy.ChainOfThought(QA), settings=lambda lm: {"adapter": dspy.JSONAdapter()}),
    Kind("XMLAdapter", lambda lm: dspy.ChainOfThought(QA), settings=lambda lm: {"adapter": dspy.XMLAdapter()}),
    Kind(
        "native function calling",
        lambda lm: dspy.Predict(UsesTools),
        WITH_TOOLS,
        settings=lambda lm: NATIVE,
    ),
    Kind(
        "TwoStepAdapter",
        lambda lm: dspy.Predict(QA),
        settings=lambda lm: {"adapter": dspy.TwoStepAdapter(lm("extraction"))},
    ),
    Kind("BAMLAdapter", lambda lm: dspy.ChainOfThought(Typed), settings=lambda lm: {"adapter": BAMLAdapter()}),
    Kind("streaming", lambda lm: Streams(), asynchronous=True),
    Kind("an adapter unless one is set", lambda lm: PrefersJSON()),
    Kind("an adapter that is set", lambda lm: PrefersJSON(), settings=lambda lm: {"adapter": dspy.ChatAdapter()}),
    Kind("sub-class of ChatAdapter", lambda lm: TwoStages(), settings=lambda lm: {"adapter": OwnAdapter()}),
]


def _with_predictor(student: Any) -> Any:
    """The student with a predictor that DSPy finds, too."""
    student.other = dspy.Predict(QA)
    return student


def _chain_of(predictor: Any) -> Any:
    student: Any = dspy.ChainOfThought(QA)
    student.predict = predictor
    return student


def _with_lm(student: Any, lm: Any) -> Any:
    student.set_lm(lm)
    return student
