"""What providers answer, from their documented formats, and what each answer is to a run.

OpenAI       https://platform.openai.com/docs/guides/error-codes
Azure        https://learn.microsoft.com/azure/ai-services/openai/reference
Anthropic    https://docs.anthropic.com/en/api/errors
Gemini       https://ai.google.dev/gemini-api/docs/troubleshooting
Bedrock      https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
OpenRouter   https://openrouter.ai/docs/api-reference/errors
LiteLLM      https://docs.litellm.ai/docs/exception_mapping
vLLM         https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
llama.cpp    https://github.com/ggml-org/llama.cpp/tree/master/tools/server
Ollama       https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, cast


class Meaning(Enum):
    """What an answer is to a run."""

    ANSWER = "an answer"
    """The student gets it, be it an empty text."""
    RETRY = "retry, then a pause for the outage"
    """The call is made again; where that goes on for longer than the grace period, the run pauses."""
    ACCESS = "a pause for access"
    """The run pauses: somebody has to act."""
    PROMPT = "the prompt's fault"
    """The program fails."""


@dataclass(frozen=True)
class ProviderAnswer:
    """One HTTP answer; a `body` that is text is sent as it is, otherwise as JSON."""

    provider: str
    name: str
    means: Meaning
    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def id(self) -> str:
        return f"{self.provider}: {self.name}"


ANSWER, RETRY, ACCESS, PROMPT = Meaning
HTML = {"Content-Type": "text/html"}


def openai(message: str, kind: str = "invalid_request_error", code: Any = None, param: Any = None) -> Any:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def chat(**choice: Any) -> Any:
    said = {"index": 0, "message": {"role": "assistant", "content": "there"}, "finish_reason": "stop", **choice}
    return {**CHAT, "choices": [said]}


CHAT: dict[str, Any] = {
    "id": "1",
    "object": "chat.completion",
    "created": 0,
    "model": "quiz",
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


def azure(code: str, message: str, **more: Any) -> Any:
    return {"error": {"code": code, "message": message, **more}}


def anthropic(kind: str, message: str) -> Any:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def claude(**more: Any) -> Any:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [{"type": "text", "text": "there"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
        **more,
    }


def google(code: int, status: str, message: str, *details: Any) -> Any:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def gemini(**candidate: Any) -> Any:
    said = {"content": {"role": "model", "parts": [{"text": "there"}]}, "finishReason": "STOP", **candidate}
    return {"candidates": [said], "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1}}


def converse(text: str | None = "there", stop: str = "end_turn") -> Any:
    return {
        "output": {"message": {"role": "assistant", "content": [] if text is None else [{"text": text}]}},
        "stopReason": stop,
        "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
        "metrics": {"latencyMs": 1},
    }


def aws(kind: str) -> dict[str, str]:
    return {"x-amzn-ErrorType": kind}


def router(code: int, message: str, **metadata: Any) -> Any:
    return {"error": {"code": code, "message": message, "metadata": metadata}}


def vllm(message: str, kind: str = "BadRequestError", code: int = 400) -> Any:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def llama(code: int, kind: str, message: str, **more: Any) -> Any:
    return {"error": {"code": code, "type": kind, "message": message, **more}}


_ROWS: tuple[tuple[Any, ...], ...] = (
    # OpenAI
    ("openai", "text", ANSWER, 200, chat()),
    ("openai", "an empty text", ANSWER, 200, chat(message={"role": "assistant", "content": ""})),
    ("openai", "a refusal", ANSWER, 200, chat(message={"role": "assistant", "content": None, "refusal": "I can't."})),
    (
        "openai",
        "a text that the filter emptied",
        ANSWER,
        200,
        chat(message={"role": "assistant", "content": None}, finish_reason="content_filter"),
    ),
    ("openai", "a wrong key", ACCESS, 401, openai("Incorrect API key provided: sk-…", code="invalid_api_key")),
    ("openai", "no member of the organization", ACCESS, 401, openai("You must be a member of an organization")),
    ("openai", "a region that is not served", ACCESS, 403, openai("Country, region, or territory not supported")),
    ("openai", "a project without access to the model", ACCESS, 403, openai("Project does not have access to model")),
    ("openai", "no such model", ACCESS, 404, openai("The model `gpt-9` does not exist", code="model_not_found")),
    ("openai", "no such URL", ACCESS, 404, openai("Unknown request URL: POST /v1/completion")),
    (
        "openai",
        "a quota that is used up",
        ACCESS,
        429,
        openai("You exceeded your current quota", code="insufficient_quota"),
    ),
    (
        "openai",
        "a billing limit",
        ACCESS,
        400,
        openai("Billing hard limit has been reached", code="billing_hard_limit_reached"),
    ),
    (
        "openai",
        "a parameter that is not supported",
        ACCESS,
        400,
        openai("Unsupported parameter: 'max_tokens' is not supported with this model.", code="unsupported_parameter"),
    ),
    (
        "openai",
        "tokens per minute",
        RETRY,
        429,
        openai("Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000", "tokens", "rate_limit_exceeded"),
        {"Retry-After": "1"},
    ),
    ("openai", "a server error", RETRY, 500, openai("The server had an error", "server_error")),
    ("openai", "a bad gateway", RETRY, 502, "<html><h1>502 Bad Gateway</h1></html>", HTML),
    ("openai", "an overloaded engine", RETRY, 503, openai("The engine is currently overloaded", "server_error")),
    ("openai", "slow down", RETRY, 503, openai("Slow Down", "server_error")),
    ("openai", "a gateway timeout", RETRY, 504, "<html>504 Gateway Time-out</html>", HTML),
    ("openai", "a conflict", RETRY, 409, openai("Conflict: the resource was updated by another request")),
    ("openai", "a request timeout", RETRY, 408, openai("Request timeout")),
    ("openai", "no choices", RETRY, 200, {**CHAT, "choices": []}),
    ("openai", "null for choices", RETRY, 200, {**CHAT, "choices": None}),
    ("openai", "an error with status 200", RETRY, 200, openai("The server had an error", "server_error")),
    ("openai", "HTML with status 200", RETRY, 200, "<html>We are down for maintenance</html>", HTML),
    ("openai", "an empty body", RETRY, 200, ""),
    ("openai", "half a body", RETRY, 200, '{"id": "1", "choices": [{"message": {"content": "the'),
    ("openai", "null for a body", RETRY, 200, "null"),
    (
        "openai",
        "the context window",
        PROMPT,
        400,
        openai("This model's maximum context length is 8192 tokens. However, …", code="context_length_exceeded"),
    ),
    (
        "openai",
        "a string that is too long",
        PROMPT,
        400,
        openai("Invalid 'messages[0].content': string too long.", code="string_above_max_length"),
    ),
    (
        "openai",
        "a prompt that violates the policy",
        PROMPT,
        400,
        openai(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy.", code="invalid_prompt"
        ),
    ),
    (
        "openai",
        "the safety system",
        PROMPT,
        400,
        openai("Your request was rejected by our safety system.", code="content_policy_violation"),
    ),
    (
        "openai",
        "an image that can't be read",
        PROMPT,
        400,
        openai("You uploaded an unsupported image.", code="invalid_image_format"),
    ),
    (
        "openai",
        "a schema that is not allowed",
        PROMPT,
        400,
        openai("Invalid schema for response_format 'Out': …", param="response_format"),
    ),
    # Azure
    ("azure", "text", ANSWER, 200, chat()),
    (
        "azure",
        "a wrong key",
        ACCESS,
        401,
        azure("401", "Access denied due to invalid subscription key or wrong API endpoint."),
    ),
    ("azure", "an expired token", ACCESS, 401, azure("Unauthorized", "Access token is missing, invalid or expired.")),
    (
        "azure",
        "no such deployment",
        ACCESS,
        404,
        azure("DeploymentNotFound", "The API deployment for this resource does not exist."),
    ),
    ("azure", "no such resource", ACCESS, 404, azure("404", "Resource not found")),
    ("azure", "an API version that is not known", ACCESS, 400, azure("BadRequest", "API version not supported")),
    ("azure", "a firewall", ACCESS, 403, azure("AccessDenied", "Access denied due to Virtual Network/Firewall rules.")),
    (
        "azure",
        "the rate limit",
        RETRY,
        429,
        azure(
            "429",
            "Requests to the ChatCompletions_Create Operation have exceeded token rate limit.",
        ),
        {"Retry-After": "1"},
    ),
    (
        "azure",
        "an internal error",
        RETRY,
        500,
        azure("InternalServerError", "The server had an error processing your request."),
    ),
    (
        "azure",
        "no capacity",
        RETRY,
        503,
        azure("ServiceUnavailable", "The service is temporarily unable to process your request."),
    ),
    ("azure", "no choices", RETRY, 200, {**CHAT, "choices": []}),
    (
        "azure",
        "the content filter",
        PROMPT,
        400,
        azure(
            "content_filter",
            "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
            status=400,
            innererror={"code": "ResponsibleAIPolicyViolation"},
        ),
    ),
    (
        "azure",
        "the context window",
        PROMPT,
        400,
        azure(
            "context_length_exceeded",
            "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        ),
    ),
    # Anthropic
    ("anthropic", "text", ANSWER, 200, claude()),
    ("anthropic", "no text", ANSWER, 200, claude(content=[])),
    ("anthropic", "a refusal", ANSWER, 200, claude(content=[], stop_reason="refusal")),
    ("anthropic", "a wrong key", ACCESS, 401, anthropic("authentication_error", "invalid x-api-key")),
    (
        "anthropic",
        "no permission",
        ACCESS,
        403,
        anthropic("permission_error", "Your API key does not have permission."),
    ),
    (
        "anthropic",
        "no credit",
        ACCESS,
        400,
        anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
    ),
    ("anthropic", "no such model", ACCESS, 404, anthropic("not_found_error", "model: claude-9")),
    (
        "anthropic",
        "a usage limit",
        ACCESS,
        400,
        anthropic("invalid_request_error", "You have reached your specified API usage limits."),
    ),
    (
        "anthropic",
        "too many output tokens asked for",
        ACCESS,
        400,
        anthropic(
            "invalid_request_error", "max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens"
        ),
    ),
    (
        "anthropic",
        "the rate limit",
        RETRY,
        429,
        anthropic(
            "rate_limit_error",
            "This request would exceed your organization's rate limit of 40,000 input tokens per minute.",
        ),
        {"Retry-After": "1"},
    ),
    ("anthropic", "an API error", RETRY, 500, anthropic("api_error", "Internal server error")),
    ("anthropic", "overloaded", RETRY, 529, anthropic("overloaded_error", "Overloaded")),
    ("anthropic", "an error with status 200", RETRY, 200, anthropic("overloaded_error", "Overloaded")),
    ("anthropic", "an empty object", RETRY, 200, {}),
    (
        "anthropic",
        "a prompt that is too long",
        PROMPT,
        400,
        anthropic("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
    ),
    (
        "anthropic",
        "a request that is too large",
        PROMPT,
        413,
        anthropic("request_too_large", "Request exceeds the maximum size"),
    ),
    (
        "anthropic",
        "output that the filter blocked",
        PROMPT,
        400,
        anthropic("invalid_request_error", "Output blocked by content filtering policy"),
    ),
    (
        "anthropic",
        "an image that can't be read",
        PROMPT,
        400,
        anthropic("invalid_request_error", "Could not process image"),
    ),
    (
        "anthropic",
        "an empty message",
        PROMPT,
        400,
        anthropic("invalid_request_error", "messages: text content blocks must be non-empty"),
    ),
    # Gemini
    ("gemini", "text", ANSWER, 200, gemini()),
    ("gemini", "an empty text", ANSWER, 200, gemini(content={"role": "model", "parts": []})),
    (
        "gemini",
        "a wrong key",
        ACCESS,
        400,
        google(
            400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", {"reason": "API_KEY_INVALID"}
        ),
    ),
    (
        "gemini",
        "an expired key",
        ACCESS,
        400,
        google(400, "INVALID_ARGUMENT", "API key expired. Please renew the API key."),
    ),
    (
        "gemini",
        "a region that is not served",
        ACCESS,
        400,
        google(400, "FAILED_PRECONDITION", "User location is not supported for the API use."),
    ),
    ("gemini", "no permission", ACCESS, 403, google(403, "PERMISSION_DENIED", "Your API key was reported as leaked.")),
    (
        "gemini",
        "no such model",
        ACCESS,
        404,
        google(404, "NOT_FOUND", "models/gemini-9 is not found for API version v1beta"),
    ),
    (
        "gemini",
        "tokens per minute",
        RETRY,
        429,
        google(
            429,
            "RESOURCE_EXHAUSTED",
            "Quota exceeded for metric: generate_content_free_tier_input_token_count, limit: 250000",
        ),
    ),
    ("gemini", "an internal error", RETRY, 500, google(500, "INTERNAL", "An internal error has occurred.")),
    (
        "gemini",
        "overloaded",
        RETRY,
        503,
        google(503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    ),
    (
        "gemini",
        "a deadline",
        RETRY,
        504,
        google(504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
    ),
    ("gemini", "no candidates", RETRY, 200, {"candidates": [], "usageMetadata": {"promptTokenCount": 1}}),
    ("gemini", "usage alone", RETRY, 200, {"usageMetadata": {"promptTokenCount": 1}, "modelVersion": "gemini"}),
    ("gemini", "nothing, for another reason", RETRY, 200, gemini(content={}, finishReason="OTHER")),
    ("gemini", "an error with status 200", RETRY, 200, google(503, "UNAVAILABLE", "The model is overloaded.")),
    (
        "gemini",
        "a prompt that is too long",
        PROMPT,
        400,
        google(
            400,
            "INVALID_ARGUMENT",
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        ),
    ),
    ("gemini", "a blocked prompt", PROMPT, 200, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}),
    ("gemini", "a blocked reply", PROMPT, 200, gemini(content={}, finishReason="SAFETY")),
    ("gemini", "a reply that recites", PROMPT, 200, gemini(content={}, finishReason="RECITATION")),
    # Bedrock
    ("bedrock", "text", ANSWER, 200, converse()),
    ("bedrock", "a guardrail in between", ANSWER, 200, converse(None, "guardrail_intervened")),
    (
        "bedrock",
        "a wrong key",
        ACCESS,
        403,
        {"message": "The security token included in the request is invalid."},
        aws("UnrecognizedClientException"),
    ),
    (
        "bedrock",
        "an expired token",
        ACCESS,
        403,
        {"message": "The security token included in the request is expired"},
        aws("ExpiredTokenException"),
    ),
    (
        "bedrock",
        "no access to the model",
        ACCESS,
        403,
        {"message": "You don't have access to the model with the specified model ID."},
        aws("AccessDeniedException"),
    ),
    (
        "bedrock",
        "no such model",
        ACCESS,
        404,
        {"message": "This model version has reached the end of its life."},
        aws("ResourceNotFoundException"),
    ),
    (
        "bedrock",
        "a model that needs a profile",
        ACCESS,
        400,
        {"message": "Invocation of model ID … with on-demand throughput isn't supported."},
        aws("ValidationException"),
    ),
    (
        "bedrock",
        "throttled",
        RETRY,
        429,
        {"message": "Too many tokens, please wait before trying again."},
        aws("ThrottlingException"),
    ),
    (
        "bedrock",
        "a model that is not ready",
        RETRY,
        429,
        {"message": "The model is not ready for inference."},
        aws("ModelNotReadyException"),
    ),
    (
        "bedrock",
        "a model that failed",
        RETRY,
        424,
        {"message": "The system encountered an unexpected error."},
        aws("ModelErrorException"),
    ),
    (
        "bedrock",
        "a model that timed out",
        RETRY,
        408,
        {"message": "Model processing timed out"},
        aws("ModelTimeoutException"),
    ),
    ("bedrock", "an internal error", RETRY, 500, {"message": "Internal server error"}, aws("InternalServerException")),
    ("bedrock", "unavailable", RETRY, 503, {"message": "Service unavailable"}, aws("ServiceUnavailableException")),
    (
        "bedrock",
        "a prompt that is too long",
        PROMPT,
        400,
        {"message": "Input is too long for requested model."},
        aws("ValidationException"),
    ),
    # OpenRouter
    ("openrouter", "text", ANSWER, 200, chat()),
    ("openrouter", "a wrong key", ACCESS, 401, router(401, "No auth credentials found")),
    ("openrouter", "no credits", ACCESS, 402, router(402, "Insufficient credits. Add more credits.")),
    ("openrouter", "no such model", ACCESS, 400, router(400, "meta/llama-99 is not a valid model ID")),
    (
        "openrouter",
        "no endpoint for the settings",
        ACCESS,
        404,
        router(404, "No endpoints found that support tool use."),
    ),
    ("openrouter", "too many requests", RETRY, 429, router(429, "Rate limit exceeded: free-models-per-min")),
    ("openrouter", "a provider that is down", RETRY, 502, router(502, "Provider returned error", provider_name="x")),
    ("openrouter", "no provider", RETRY, 503, router(503, "There is no available model provider")),
    ("openrouter", "a provider's error with status 200", RETRY, 200, router(502, "Provider returned error")),
    (
        "openrouter",
        "a reply that broke off",
        RETRY,
        200,
        chat(message={"role": "assistant", "content": "the"}, finish_reason="error"),
    ),
    (
        "openrouter",
        "a prompt that was flagged",
        PROMPT,
        403,
        router(403, "Your chosen model requires moderation and your input was flagged", reasons=["violence"]),
    ),
    (
        "openrouter",
        "the context window",
        PROMPT,
        400,
        router(400, "This endpoint's maximum context length is 8192 tokens. However, you requested about 9000 tokens."),
    ),
    # LiteLLM's proxy
    ("litellm", "text", ANSWER, 200, chat()),
    (
        "litellm",
        "a wrong key",
        ACCESS,
        401,
        openai("Authentication Error, Invalid proxy server token passed.", "auth_error", "401"),
    ),
    (
        "litellm",
        "a budget that is used up",
        ACCESS,
        400,
        openai("Budget has been exceeded! Current cost: 10.1, Max budget: 10.0", "budget_exceeded", "400"),
    ),
    (
        "litellm",
        "no such model",
        ACCESS,
        400,
        openai("/chat/completions: Invalid model name passed in model=quiz.", "None", "400"),
    ),
    (
        "litellm",
        "all deployments cool down",
        RETRY,
        429,
        openai("No deployments available for selected model, Try again in 5 seconds.", "None", "429"),
    ),
    (
        "litellm",
        "a connection error behind it",
        RETRY,
        500,
        openai("litellm.InternalServerError: OpenAIException - Connection error.", "None", "500"),
    ),
    (
        "litellm",
        "the context window",
        PROMPT,
        400,
        openai(
            "litellm.ContextWindowExceededError: This model's maximum context length is 8192 tokens.", "None", "400"
        ),
    ),
    ("litellm", "a guardrail", PROMPT, 400, openai("Violated guardrail policy", "None", "400")),
    # vLLM
    ("vllm", "text", ANSWER, 200, chat()),
    ("vllm", "a wrong key", ACCESS, 401, {"error": "Unauthorized"}),
    ("vllm", "no such model", ACCESS, 404, vllm("The model `quiz` does not exist.", "NotFoundError", 404)),
    ("vllm", "FastAPI's own answer", ACCESS, 404, {"detail": "Not Found"}),
    ("vllm", "nginx's own answer", ACCESS, 404, "<html><h1>404 Not Found</h1></html>", HTML),
    ("vllm", "an engine that died", RETRY, 500, vllm("EngineCore encountered an issue.", "InternalServerError", 500)),
    ("vllm", "a server that starts", RETRY, 503, "upstream connect error or disconnect/reset before headers"),
    (
        "vllm",
        "the context window",
        PROMPT,
        400,
        vllm("This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."),
    ),
    # Older versions do not nest their errors, and DSPy reads nothing of them: the reason is not known.
    ("vllm", "an error that is not nested", ACCESS, 400, vllm("This model's maximum context length is 4096.")["error"]),
    # llama.cpp
    ("llama.cpp", "text", ANSWER, 200, chat()),
    ("llama.cpp", "a wrong key", ACCESS, 401, llama(401, "authentication_error", "Invalid API Key")),
    ("llama.cpp", "a model that is loading", RETRY, 503, llama(503, "unavailable_error", "Loading model")),
    (
        "llama.cpp",
        "the context size",
        PROMPT,
        400,
        llama(
            400,
            "exceed_context_size_error",
            "the request exceeds the available context size, try increasing it",
            n_prompt_tokens=9000,
            n_ctx=8192,
        ),
    ),
    (
        "llama.cpp",
        "the context size, in older versions",
        PROMPT,
        500,
        llama(
            500,
            "server_error",
            "the request exceeds the available context size. try increasing the context size or enable context shift",
        ),
    ),
    # Ollama
    ("ollama", "text", ANSWER, 200, chat()),
    ("ollama", "no such model", ACCESS, 404, openai('model "quiz" not found, try pulling it first', "api_error")),
    (
        "ollama",
        "a server that is busy",
        RETRY,
        503,
        openai("server busy, please try again. maximum pending requests exceeded", "api_error"),
    ),
    (
        "ollama",
        "a model that does not fit",
        RETRY,
        500,
        openai("model requires more system memory (5.6 GiB) than is available", "api_error"),
    ),
    (
        "ollama",
        "images for a model without eyes",
        PROMPT,
        400,
        openai("this model does not support images", "invalid_request_error"),
    ),
)

ANSWERS: tuple[ProviderAnswer, ...] = tuple(ProviderAnswer(*cast("Any", row)) for row in _ROWS)
