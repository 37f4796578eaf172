"""What providers answer, from their documented formats, and what each answer is to a run.

OpenAI       https://developers.openai.com/api/docs/guides/error-codes
Azure        https://learn.microsoft.com/azure/ai-services/openai/reference
Anthropic    https://platform.claude.com/docs/en/api/errors and https://platform.claude.com/docs/api/rate-limits
Gemini       https://ai.google.dev/gemini-api/docs/troubleshooting
Bedrock      https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html
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
    """What a run does with an answer."""

    ANSWER = "an answer"
    """The student gets it, even if its text is empty."""
    RETRY = "retry, then a pause for the outage"
    """The call is made again. If that lasts longer than the grace period, the run pauses."""
    ACCESS = "a pause for access"
    """The run pauses until somebody acts."""
    PROMPT = "the prompt's fault"
    """The program fails."""


@dataclass(frozen=True)
class ProviderAnswer:
    """One HTTP answer. A `body` that is a string is sent as it is, otherwise as JSON."""

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


def flat(message: str) -> Any:
    return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}


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


def anthropic(kind: str, message: str, **details: Any) -> Any:
    error = {"type": kind, "message": message, **({"details": details} if details else {})}
    return {"type": "error", "error": error, "request_id": "req_1"}


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
    (
        "openai",
        "an account without credits",
        ACCESS,
        429,
        openai("No prepaid credits remaining.", "insufficient_quota", "credit_balance_exhausted"),
    ),
    (
        "openai",
        "a spend limit of the organization",
        ACCESS,
        429,
        openai("The organization has reached its limit.", "rate_limit_error", "organization_spend_limit_exceeded"),
    ),
    (
        "openai",
        "a spend limit of the project",
        ACCESS,
        429,
        openai("The project has reached its enforced limit.", "requests", "project_spend_limit_exceeded"),
    ),
    (
        "openai",
        "a usage limit of the organization",
        ACCESS,
        429,
        openai("Usage limit reached", "requests", "organization_usage_limit_exceeded"),
    ),
    (
        "openai",
        "a quota that only the type names",
        ACCESS,
        429,
        openai("You exceeded your current quota, please check your plan and billing details.", "insufficient_quota"),
    ),
    (
        "openai",
        "an account that is not active",
        ACCESS,
        429,
        openai(
            "Your account is not active, please check your billing details.", "billing_not_active", "billing_not_active"
        ),
    ),
    (
        "openai",
        "an account that was deactivated",
        ACCESS,
        401,
        openai("The account associated with this API key has been deactivated.", code="account_deactivated"),
    ),
    (
        "openai",
        "an address that is not on the allowlist",
        ACCESS,
        401,
        openai("Your request IP is not authorized.", code="ip_not_authorized"),
    ),
    (
        "openai",
        "a country that is not served",
        ACCESS,
        403,
        openai(
            "Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory"
        ),
    ),
    (
        "openai",
        "a service tier that is not allowed",
        ACCESS,
        400,
        openai(
            "Invalid service_tier argument: The requested service tier is not allowed for this project.",
            param="service_tier",
        ),
    ),
    (
        "openai",
        "a value that is not supported",
        ACCESS,
        400,
        openai(
            "Unsupported value: 'temperature' does not support 0.5 with this model.",
            code="unsupported_value",
            param="temperature",
        ),
    ),
    (
        "openai",
        "too many tokens for one reply asked for",
        ACCESS,
        400,
        openai(
            "max_tokens is too large: 100000. This model supports at most 16384 completion tokens.",
            code="invalid_value",
            param="max_tokens",
        ),
    ),
    (
        "openai",
        "too few tokens for a model that reasons",
        ACCESS,
        400,
        openai(
            "Could not finish the message because max_tokens or model output limit was reached. "
            "Please try again with higher max_tokens."
        ),
    ),
    (
        "openai",
        "one request beyond the tokens per minute",
        ACCESS,
        429,
        openai(
            "Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, "
            "Requested 45000. The input or output tokens must be reduced in order to run "
            "successfully.",
            "tokens",
            "rate_limit_exceeded",
        ),
    ),
    ("openai", "a challenge of Cloudflare", ACCESS, 403, "<html><title>Just a moment...</title></html>", HTML),
    ("openai", "a model that was retired", ACCESS, 410, openai("This model has been retired.")),
    (
        "openai",
        "fields that are missing",
        ACCESS,
        422,
        {"detail": [{"loc": ["body", "messages"], "msg": "field required"}]},
    ),
    ("openai", "traffic that grows too fast", RETRY, 429, openai("Slow down", "rate_limit_error", "slow_down")),
    (
        "openai",
        "a model without capacity",
        RETRY,
        503,
        openai("Our servers are currently overloaded.", "service_unavailable_error", "server_is_overloaded"),
    ),
    (
        "openai",
        "requests per day",
        RETRY,
        429,
        openai(
            "Rate limit reached for gpt-4o-mini on requests per day (RPD): Limit 10000, Used 10000, "
            "Requested 1. Please try again in 8.64s.",
            "requests",
            "rate_limit_exceeded",
        ),
    ),
    ("openai", "a rate limit of the proxy before it", RETRY, 429, "<html>429 Too Many Requests</html>", HTML),
    (
        "openai",
        "an unknown error of Cloudflare",
        RETRY,
        520,
        "<html>520: Web server is returning an unknown error</html>",
        HTML,
    ),
    ("openai", "a timeout of Cloudflare", RETRY, 524, "<html>524: A timeout occurred</html>", HTML),
    ("openai", "a redirection", RETRY, 307, "", {"Location": "/elsewhere"}),
    (
        "openai",
        "a filter that is down",
        RETRY,
        500,
        openai("The content filter service is unavailable", "server_error"),
    ),
    (
        "openai",
        "a choice without a message",
        RETRY,
        200,
        {**CHAT, "choices": [{"index": 0, "message": None, "finish_reason": "stop"}]},
    ),
    ("openai", "a list for a body", RETRY, 200, "[]"),
    (
        "openai",
        "a call of a tool and no text",
        ANSWER,
        200,
        chat(
            message={
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            finish_reason="tool_calls",
        ),
    ),
    (
        "openai",
        "reasoning and no text",
        ANSWER,
        200,
        chat(message={"role": "assistant", "content": "", "reasoning_content": "Hm."}, finish_reason="length"),
    ),
    (
        "openai",
        "content that is withheld for safety",
        PROMPT,
        400,
        openai("Invalid prompt: we've limited access to this content for safety reasons.", code="invalid_prompt"),
    ),
    (
        "openai",
        "content that was flagged as an attack",
        PROMPT,
        400,
        openai("This request was stopped.", code="cyber_policy_violation"),
    ),
    # Of providers with OpenAI's interface
    (
        "openai",
        "Groq: one request beyond the tokens per minute",
        ACCESS,
        413,
        openai(
            "Request too large for model `llama` on tokens per minute (TPM): Limit 6000, Requested "
            "7000, please reduce your message size and try again.",
            "tokens",
            "rate_limit_exceeded",
        ),
    ),
    (
        "openai",
        "DeepSeek: no balance",
        ACCESS,
        402,
        openai("Insufficient Balance", "unknown_error", "invalid_request_error"),
    ),
    (
        "openai",
        "xAI: a wrong key",
        ACCESS,
        400,
        {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***ey."},
    ),
    (
        "openai",
        "Moonshot: no balance",
        ACCESS,
        429,
        openai("Your account is suspended, please check your plan and billing details", "exceeded_current_quota_error"),
    ),
    (
        "openai",
        "Z.AI: no balance",
        ACCESS,
        429,
        openai("Insufficient balance or no resource package. Please recharge.", code="1113"),
    ),
    (
        "openai",
        "Hugging Face: the month's credits",
        ACCESS,
        402,
        {"error": "You have exceeded your monthly included credits for Inference Providers."},
    ),
    (
        "openai",
        "Groq: a flex tier at capacity",
        RETRY,
        498,
        openai("Flex tier capacity exceeded", "flex", "capacity_exceeded"),
    ),
    (
        "openai",
        "Hugging Face: a model that is loading",
        RETRY,
        503,
        {"error": "Model x is currently loading", "estimated_time": 20.0},
    ),
    (
        "openai",
        "Groq: a reply that is not JSON",
        PROMPT,
        400,
        openai("Failed to generate JSON. Please adjust your prompt.", code="json_validate_failed"),
    ),
    (
        "openai",
        "DeepSeek: content with a risk",
        PROMPT,
        400,
        openai("Content Exists Risk", code="invalid_request_error"),
    ),
    (
        "openai",
        "DashScope: content that was refused",
        PROMPT,
        400,
        openai("Input data may contain inappropriate content.", code="data_inspection_failed"),
    ),
    (
        "openai",
        "Moonshot: content with a risk",
        PROMPT,
        400,
        openai("The request was rejected because it was considered high risk", "content_filter"),
    ),
    (
        "openai",
        "xAI: content that was refused",
        PROMPT,
        403,
        {
            "code": "The caller does not have permission to execute the specified operation",
            "error": "Content violates usage guidelines. Model: grok-4, Failed check: SAFETY_CHECK_TYPE_BIO",
        },
    ),
    (
        "openai",
        "xAI: the context window",
        PROMPT,
        400,
        {
            "code": "Client specified an invalid argument",
            "error": "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
        },
    ),
    (
        "openai",
        "LM Studio: the context window",
        PROMPT,
        400,
        {
            "error": "Trying to keep the first 5000 tokens when context the overflows. However, the model is "
            "loaded with context length of only 4096 tokens, which is not enough."
        },
    ),
    (
        "openai",
        "Fireworks: an account that was suspended",
        ACCESS,
        412,
        openai("Account x is suspended, possibly due to reaching the monthly spending limit."),
    ),
    (
        "openai",
        "DashScope: an account in arrears",
        ACCESS,
        400,
        openai("Access denied, please make sure your account is in good standing.", "Arrearage", "Arrearage"),
    ),
    (
        "openai",
        "an organization that is not verified",
        ACCESS,
        403,
        openai("Your organization must be verified to use the model."),
    ),
    (
        "openai",
        "a quota that is used up, with status 200",
        ACCESS,
        200,
        openai("You exceeded your current quota, please check your plan.", "insufficient_quota", "insufficient_quota"),
    ),
    ("openai", "a proxy that wants a login", ACCESS, 407, "Proxy Authentication Required"),
    ("openai", "a page to log in with status 200", RETRY, 200, "<html><form>login</form></html>", HTML),
    ("openai", "a stream that nobody asked for", RETRY, 200, "data: [DONE]", {"Content-Type": "text/event-stream"}),
    ("openai", "a certificate that Cloudflare refuses", RETRY, 525, "error code: 525"),
    (
        "openai",
        "Cerebras: tokens per day",
        RETRY,
        429,
        openai(
            "Tokens per day limit exceeded - too many tokens processed.",
            "too_many_tokens_error",
            "token_quota_exceeded",
        ),
    ),
    (
        "openai",
        "Databricks: tokens per minute",
        RETRY,
        429,
        {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "Exceeded workspace input tokens per minute rate limit."},
    ),
    (
        "openai",
        "Together: the context window",
        PROMPT,
        422,
        openai("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193."),
    ),
    (
        "openai",
        "DashScope: the context window",
        PROMPT,
        400,
        openai("Range of input length should be [1, 129024]", code="invalid_parameter_error"),
    ),
    (
        "openai",
        "the context window with status 200",
        PROMPT,
        200,
        openai("This model's maximum context length is 4096 tokens.", code="context_length_exceeded"),
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
    (
        "azure",
        "a resource that was blocked",
        ACCESS,
        403,
        azure(
            "403",
            "Your resource has been temporarily blocked because we detected behavior that may violate "
            "our content policy.",
        ),
    ),
    (
        "azure",
        "a call volume that is used up",
        ACCESS,
        403,
        azure("403", "Out of call volume quota. Quota will be replenished in 20.00:00:00."),
    ),
    (
        "azure",
        "an operation that the model lacks",
        ACCESS,
        400,
        azure("OperationNotSupported", "The chatCompletion operation does not work with the specified model."),
    ),
    (
        "azure",
        "a rate limit in milliseconds",
        RETRY,
        429,
        azure("429", "Rate limit is exceeded."),
        {"retry-after-ms": "700", "x-ratelimit-remaining-tokens": "0"},
    ),
    (
        "azure",
        "high demand",
        RETRY,
        429,
        azure("429", "System is experiencing high demand. Please retry after 2 seconds."),
    ),
    ("azure", "a deployment that is being made", RETRY, 409, azure("Conflict", "The deployment is being created")),
    (
        "azure",
        "an error of the gateway",
        RETRY,
        500,
        {"statusCode": 500, "message": "Internal server error", "activityId": "1"},
    ),
    (
        "azure",
        "a jailbreak",
        PROMPT,
        400,
        azure(
            "content_filter",
            "The response was filtered due to the prompt triggering Azure OpenAI's content management "
            "policy. Please modify your prompt and retry.",
            innererror={
                "code": "ResponsibleAIPolicyViolation",
                "content_filter_result": {"jailbreak": {"filtered": True, "detected": True}},
            },
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
    (
        "anthropic",
        "thoughts and no text",
        ANSWER,
        200,
        claude(content=[{"type": "thinking", "thinking": "Hm.", "signature": "s"}]),
    ),
    (
        "anthropic",
        "a context window that the reply has filled",
        ANSWER,
        200,
        claude(content=[], stop_reason="model_context_window_exceeded"),
    ),
    (
        "anthropic",
        "the tier's spend limit",
        ACCESS,
        429,
        anthropic(
            "rate_limit_error",
            "You have reached your API usage limits: your organization has crossed its monthly API "
            "usage threshold, set based on your organization's API tier. You will regain access on "
            "2026-09-01 at 00:00 UTC.",
            error_code="enforced_spend_limit_reached",
        ),
    ),
    (
        "anthropic",
        "a spend limit in other words",
        ACCESS,
        429,
        anthropic(
            "rate_limit_error",
            "Your organization has reached its enforced spend limit.",
            error_code="enforced_spend_limit_reached",
        ),
    ),
    (
        "anthropic",
        "a usage limit of the workspace",
        ACCESS,
        400,
        anthropic(
            "invalid_request_error",
            "You have reached your specified workspace API usage limits. You will regain access on "
            "2026-09-01 at 00:00 UTC.",
        ),
    ),
    (
        "anthropic",
        "a problem with the payment",
        ACCESS,
        402,
        anthropic("billing_error", "There's an issue with your billing or payment information."),
    ),
    (
        "anthropic",
        "an organization that was disabled",
        ACCESS,
        400,
        anthropic("invalid_request_error", "This organization has been disabled."),
    ),
    (
        "anthropic",
        "settings that exclude each other",
        ACCESS,
        400,
        anthropic("invalid_request_error", "`temperature` and `top_p` cannot both be specified for this model."),
    ),
    (
        "anthropic",
        "traffic that grows too fast",
        RETRY,
        429,
        anthropic("rate_limit_error", "Your organization's usage increased too quickly."),
    ),
    (
        "anthropic",
        "too many connections",
        RETRY,
        429,
        anthropic(
            "rate_limit_error",
            "Number of concurrent connections has exceeded your rate limit. Please try again later or contact sales.",
        ),
    ),
    ("anthropic", "a conflict", RETRY, 409, anthropic("conflict_error", "Conflict")),
    ("anthropic", "a timeout", RETRY, 504, anthropic("timeout_error", "Request timed out")),
    (
        "anthropic",
        "a prompt with too little room for the reply",
        PROMPT,
        400,
        anthropic(
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 204698, decrease "
            "input length or `max_tokens` and try again",
        ),
    ),
    (
        "anthropic",
        "a request that is too large for Cloudflare",
        PROMPT,
        413,
        "<html>413 Request Entity Too Large</html>",
        HTML,
    ),
    (
        "anthropic",
        "an image that is too large",
        PROMPT,
        400,
        anthropic(
            "invalid_request_error",
            "messages.0.content.1.image.source.base64: At least one of the image dimensions exceed "
            "max allowed size: 8000 pixels",
        ),
    ),
    (
        "anthropic",
        "too many images",
        PROMPT,
        400,
        anthropic("invalid_request_error", "Too many images and documents: 101 > 100"),
    ),
    (
        "anthropic",
        "roles that do not alternate",
        ACCESS,
        400,
        anthropic("invalid_request_error", "messages: roles must alternate"),
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
    ("gemini", "a reply that was cut off", ANSWER, 200, gemini(content={"role": "model"}, finishReason="MAX_TOKENS")),
    (
        "gemini",
        "no prepaid credits",
        ACCESS,
        402,
        google(402, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted."),
    ),
    (
        "gemini",
        "a spending cap",
        ACCESS,
        429,
        google(429, "RESOURCE_EXHAUSTED", "Your project has exceeded its monthly spending cap."),
    ),
    (
        "gemini",
        "a quota without a time to wait",
        ACCESS,
        429,
        google(
            429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and billing details."
        ),
    ),
    (
        "gemini",
        "an API that is not enabled",
        ACCESS,
        403,
        google(
            403,
            "PERMISSION_DENIED",
            "Generative Language API has not been used in project 1 before or it is disabled. Enable "
            "it, wait a few minutes and retry.",
        ),
    ),
    (
        "gemini",
        "credentials that are not valid",
        ACCESS,
        401,
        google(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
    ),
    (
        "gemini",
        "too many output tokens asked for",
        ACCESS,
        400,
        google(
            400,
            "INVALID_ARGUMENT",
            "Unable to submit request because it has a maxOutputTokens value of 100000 but the "
            "supported range is from 1 (inclusive) to 65537 (exclusive). Update the value and try "
            "again.",
        ),
    ),
    (
        "gemini",
        "a budget for thoughts that is not supported",
        ACCESS,
        400,
        google(400, "INVALID_ARGUMENT", "Thinking budget is not supported for this model."),
    ),
    (
        "gemini",
        "requests per day",
        RETRY,
        429,
        google(
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota, please check your plan and billing details. \n* Quota "
            "exceeded for metric: generate_content_free_tier_requests, limit: 20\nPlease retry in "
            "36.429760048s.",
            {
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
            },
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36s"},
        ),
    ),
    (
        "gemini",
        "shared capacity of Vertex AI",
        RETRY,
        429,
        google(
            429,
            "RESOURCE_EXHAUSTED",
            "Resource exhausted. Please try again later. Please refer to "
            "https://cloud.google.com/vertex-ai/generative-ai/docs/error-code-429 for more details.",
        ),
    ),
    (
        "gemini",
        "resources that are exhausted",
        RETRY,
        429,
        google(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    ),
    ("gemini", "a call that was cancelled", RETRY, 499, google(499, "CANCELLED", "The operation was cancelled.")),
    ("gemini", "a list with an error", RETRY, 503, [google(503, "UNAVAILABLE", "The model is overloaded.")]),
    ("gemini", "a candidate without a reason", RETRY, 200, gemini(content={}, finishReason=None)),
    (
        "gemini",
        "a prompt that is too long for Vertex AI",
        PROMPT,
        400,
        google(
            400,
            "INVALID_ARGUMENT",
            "Unable to submit request because the input token count is 1251952 but model only "
            "supports up to 1048576. Reduce the input token count and try again.",
        ),
    ),
    (
        "gemini",
        "words that violate Google's practices",
        PROMPT,
        400,
        google(
            400,
            "INVALID_ARGUMENT",
            "The prompt could not be submitted. This prompt contains sensitive words that violate "
            "Google's Responsible AI practices.",
        ),
    ),
    (
        "gemini",
        "a prompt that is blocked for another reason",
        PROMPT,
        200,
        {"promptFeedback": {"blockReason": "OTHER"}},
    ),
    ("gemini", "prohibited content", PROMPT, 200, gemini(content={}, finishReason="PROHIBITED_CONTENT")),
    (
        "gemini",
        "a call of a tool that is malformed",
        PROMPT,
        200,
        gemini(content={}, finishReason="MALFORMED_FUNCTION_CALL"),
    ),
    ("gemini", "a reply that is malformed", PROMPT, 200, gemini(content={}, finishReason="MALFORMED_RESPONSE")),
    (
        "gemini",
        "requests per minute",
        RETRY,
        429,
        google(429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Generate Content API requests per minute'"),
    ),
    (
        "gemini",
        "a request that is too large",
        PROMPT,
        400,
        google(400, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes."),
    ),
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
    (
        "bedrock",
        "a quota of the account",
        ACCESS,
        400,
        {"message": "Your request exceeds the service quota for your account."},
        aws("ServiceQuotaExceededException"),
    ),
    (
        "bedrock",
        "a signature that does not match",
        ACCESS,
        403,
        {"message": "The request signature we calculated does not match the signature you provided."},
        aws("InvalidSignatureException"),
    ),
    (
        "bedrock",
        "a form that was not filled in",
        ACCESS,
        404,
        {
            "message": "Model use case details have not been submitted for this account. If you have already "
            "filled out the form, try again in 15 minutes."
        },
        aws("ResourceNotFoundException"),
    ),
    (
        "bedrock",
        "a request that is malformed",
        ACCESS,
        400,
        {
            "message": "Malformed input request: #: extraneous key [foo] is not permitted, please reformat your "
            "input and try again."
        },
        aws("ValidationException"),
    ),
    (
        "bedrock",
        "too many output tokens asked for",
        ACCESS,
        400,
        {
            "message": "The maximum tokens you requested exceeds the model limit of 4096. Try again with a "
            "maximum tokens value that is lower than 4096."
        },
        aws("ValidationException"),
    ),
    (
        "bedrock",
        "tokens per day",
        RETRY,
        429,
        {"message": "Too many tokens per day, please wait before trying again."},
        aws("ThrottlingException"),
    ),
    (
        "bedrock",
        "a stream that broke",
        RETRY,
        424,
        {"message": "An error occurred while streaming the response. Retry your request."},
        aws("ModelStreamErrorException"),
    ),
    (
        "bedrock",
        "too many input tokens",
        PROMPT,
        400,
        {
            "message": "The model returned the following errors: Input Tokens Exceeded: Number of input tokens "
            "exceeds maximum length. Please update the input to try again."
        },
        aws("ValidationException"),
    ),
    (
        "bedrock",
        "a text that is blank",
        PROMPT,
        400,
        {
            "message": "The text field in the ContentBlock object at messages.0.content.0 is blank. Add text to "
            "the text field, and try again."
        },
        aws("ValidationException"),
    ),
    (
        "bedrock",
        "a clock that is wrong",
        ACCESS,
        403,
        {"message": "Signature expired: 20260101T000000Z is now earlier than …"},
        aws("InvalidSignatureException"),
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
    (
        "openrouter",
        "too few credits for the reply",
        ACCESS,
        402,
        router(
            402,
            "This request requires more credits, or fewer max_tokens. You requested up to 64000 "
            "tokens, but can only afford 1234.",
        ),
    ),
    ("openrouter", "no credits, with status 200", ACCESS, 200, router(402, "Insufficient credits")),
    (
        "openrouter",
        "a limit of the key",
        ACCESS,
        403,
        router(403, "Key limit exceeded (total limit).", limit_source="openrouter_key_limit"),
    ),
    (
        "openrouter",
        "a budget of a guardrail",
        ACCESS,
        403,
        router(403, "Guardrail budget limit exceeded", limit_source="openrouter_guardrail_budget"),
    ),
    (
        "openrouter",
        "a data policy that nobody meets",
        ACCESS,
        404,
        router(404, "No endpoints found matching your data policy."),
    ),
    (
        "openrouter",
        "a provider's refusal without a reason",
        ACCESS,
        400,
        router(400, "Provider returned error", provider_name="x"),
    ),
    (
        "openrouter",
        "a budget of calls in flight",
        RETRY,
        402,
        router(402, "Your in-flight spending budget is full.", limit_source="openrouter_in_flight_budget"),
        {"Retry-After": "1"},
    ),
    (
        "openrouter",
        "requests per day",
        RETRY,
        429,
        router(
            429, "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day"
        ),
    ),
    ("openrouter", "too many requests, with status 200", RETRY, 200, router(429, "Rate limit exceeded")),
    ("openrouter", "a provider that is overloaded", RETRY, 529, router(529, "Provider overloaded")),
    ("openrouter", "a timeout", RETRY, 408, router(408, "Request timed out")),
    (
        "openrouter",
        "a choice with an error",
        RETRY,
        200,
        {
            **CHAT,
            "choices": [
                {
                    "index": 0,
                    "error": {"code": 502, "message": "Upstream"},
                    "message": {"role": "assistant", "content": ""},
                    "finish_reason": "error",
                }
            ],
        },
    ),
    (
        "openrouter",
        "a prompt that was flagged and not charged",
        PROMPT,
        403,
        router(
            403,
            'x requires moderation on OpenAI. Your input was flagged for "violence". No credits were charged.',
            reasons=["violence"],
        ),
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
    (
        "litellm",
        "a budget of the key",
        ACCESS,
        429,
        openai("Budget has been exceeded! Key=1 Current cost: 10.51, Max budget: 10.00", "budget_exceeded", "429"),
    ),
    (
        "litellm",
        "a budget for the model",
        ACCESS,
        429,
        openai("LiteLLM User: engineer-1, exceeded budget for model=claude", "budget_exceeded", "429"),
    ),
    (
        "litellm",
        "a budget of the end user",
        ACCESS,
        400,
        openai("ExceededBudget: End User=x over budget. Spend=0.0008, Budget=0.0001", "auth_error", "400"),
    ),
    (
        "litellm",
        "a budget of the deployment",
        ACCESS,
        429,
        openai(
            "No deployments available - crossed budget: Exceeded budget for deployment model_name: x: 0.36 >= 0.3",
            "None",
            "429",
        ),
    ),
    (
        "litellm",
        "a provider's quota",
        ACCESS,
        429,
        openai(
            "litellm.RateLimitError: RateLimitError: OpenAIException - You exceeded your current "
            "quota, please check your plan and billing details.",
            "None",
            "429",
        ),
    ),
    (
        "litellm",
        "a model that the key may not use",
        ACCESS,
        403,
        openai(
            "key not allowed to access model. This key can only access models=['a']", "key_model_access_denied", "403"
        ),
    ),
    (
        "litellm",
        "a key that has expired",
        ACCESS,
        401,
        openai("Authentication Error - Expired Key.", "expired_key", "400"),
    ),
    (
        "litellm",
        "no deployment that is healthy",
        ACCESS,
        400,
        openai("There are no healthy deployments for this model", "None", "400"),
    ),
    (
        "litellm",
        "requests per minute of the key",
        RETRY,
        429,
        openai("Crossed TPM / RPM / Max Parallel Request Limit. current rpm: 1, rpm limit: 1", "None", "429"),
        {"retry-after": "1"},
    ),
    (
        "litellm",
        "a timeout",
        RETRY,
        408,
        openai("litellm.Timeout: APITimeoutError - Request timed out.", "None", "408"),
    ),
    ("litellm", "no database", RETRY, 503, openai("Database not connected", "no_db_connection", "503")),
    (
        "litellm",
        "fallbacks that fail too",
        RETRY,
        500,
        openai(
            "litellm.InternalServerError: AnthropicException - Overloaded. Received Model "
            "Group=x\nAvailable Model Group Fallbacks=None",
            "None",
            "500",
        ),
    ),
    (
        "litellm",
        "a provider's content policy",
        PROMPT,
        400,
        openai("litellm.ContentPolicyViolationError: AzureException - The response was filtered", "None", "400"),
    ),
    (
        "litellm",
        "the context window, with status 500",
        PROMPT,
        500,
        openai("litellm.APIError: This model's maximum context length is 8192 tokens", "None", "500"),
    ),
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
    # Older versions do not nest their errors.
    ("vllm", "an error that is not nested", PROMPT, 400, vllm("This model's maximum context length is 4096.")["error"]),
    (
        "vllm",
        "tools that are not set up",
        ACCESS,
        400,
        vllm('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
    ),
    ("vllm", "a server that sleeps", RETRY, 503, vllm("Server is sleeping", "ServiceUnavailable", 503)),
    (
        "vllm",
        "Text Generation Inference: overloaded",
        RETRY,
        429,
        {"error": "Model is overloaded", "error_type": "overloaded"},
    ),
    (
        "vllm",
        "the context window, in newer versions",
        PROMPT,
        400,
        vllm(
            "You passed 5000 input tokens and requested 0 output tokens. However, the model's context "
            "length is only 4096 tokens, resulting in a maximum input length of 4096 tokens. Please "
            "reduce the length of the input prompt."
        ),
    ),
    (
        "vllm",
        "the maximum length of the model",
        PROMPT,
        400,
        vllm("The decoder prompt (length 5000) is longer than the maximum model length of 4096."),
    ),
    ("vllm", "no room for a reply", PROMPT, 400, vllm("max_tokens must be at least 1, got -186.")),
    ("vllm", "more images than allowed", PROMPT, 400, vllm("At most 0 image(s) may be provided in one prompt.")),
    (
        "vllm",
        "SGLang: the context window",
        PROMPT,
        400,
        vllm("The input (5000 tokens) is longer than the model's context length (4096 tokens)."),
    ),
    (
        "vllm",
        "Text Generation Inference: the context window",
        PROMPT,
        422,
        {
            "error": "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000",
            "error_type": "validation",
        },
    ),
    ("vllm", "too little memory", RETRY, 500, vllm("CUDA out of memory", "InternalServerError", 500)),
    (
        "vllm",
        "a reply that is too long for the context window",
        PROMPT,
        400,
        vllm("'max_tokens' is too large: 4000. This model's maximum context length is 4096 tokens."),
    ),
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
    (
        "llama.cpp",
        "something that it does not do",
        ACCESS,
        501,
        llama(501, "not_supported_error", "This server does not support completions."),
    ),
    ("llama.cpp", "no slot", RETRY, 503, llama(503, "unavailable_error", "no slot available")),
    ("llama.cpp", "an error of the model", RETRY, 500, llama(500, "server_error", "Compute error.")),
    (
        "llama.cpp",
        "the context size, while it writes",
        PROMPT,
        500,
        llama(500, "server_error", "Context size has been exceeded."),
    ),
    (
        "llama.cpp",
        "the context size, with status 200",
        PROMPT,
        200,
        llama(400, "exceed_context_size_error", "the request exceeds the available context size."),
    ),
    (
        "llama.cpp",
        "the context size, of forks",
        PROMPT,
        500,
        llama(500, "server_error", "Input prompt is too big compared to KV size. Please try increasing KV size."),
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
    ("ollama", "no such model, in its own format", ACCESS, 404, {"error": "model 'quiz' not found"}),
    ("ollama", "no access to its cloud", ACCESS, 401, {"error": "unauthorized"}),
    ("ollama", "thoughts of a model without any", ACCESS, 400, openai('"quiz" does not support thinking')),
    (
        "ollama",
        "a server that is busy, in its own format",
        RETRY,
        503,
        {"error": "server busy, please try again.  maximum pending requests exceeded"},
    ),
    (
        "ollama",
        "a runner that died",
        RETRY,
        500,
        openai("llama runner process has terminated: exit status 2", "api_error"),
    ),
    (
        "ollama",
        "a limit per hour of its cloud",
        RETRY,
        429,
        {"error": "you've reached your hourly usage limit, please upgrade to continue"},
    ),
    ("ollama", "the context window", PROMPT, 400, openai("the input length exceeds the context length")),
    (
        "ollama",
        "the context window, in older versions",
        PROMPT,
        500,
        openai("failed to create new sequence: the input length exceeds the context length", "api_error"),
    ),
    # Replies of which DSPy's client reads nothing, since they do not nest their errors or call them something else.
    (
        "openai",
        "Mistral: the context window",
        PROMPT,
        400,
        flat("Prompt contains 40000 tokens, too large for model with 32768 maximum context length"),
    ),
    ("openai", "Mistral: a wrong key", ACCESS, 401, {"message": "Unauthorized", "request_id": "1"}),
    ("openai", "Mistral: moderation", PROMPT, 403, flat("The input was flagged by a guardrail")),
    (
        "openai",
        "Cohere: the context window",
        PROMPT,
        400,
        {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 4500."},
    ),
    (
        "openai",
        "Cohere: a parameter",
        ACCESS,
        400,
        {"message": "invalid request: temperature must be between 0 and 1.0 inclusive."},
    ),
    (
        "openai",
        "SGLang: the context window, not nested",
        PROMPT,
        400,
        flat("Requested token count exceeds the model's maximum context length of 8192 tokens."),
    ),
    (
        "openai",
        "Cerebras: the context window",
        PROMPT,
        400,
        {"message": "Please reduce the length of the messages or completion.", "code": "wrong_api_format"},
    ),
    (
        "openai",
        "DeepInfra: the context window",
        PROMPT,
        400,
        {"detail": {"error": "This model's maximum context length is 8192 tokens"}},
    ),
    (
        "openai",
        "watsonx: the context window",
        PROMPT,
        400,
        {
            "errors": [
                {
                    "code": "invalid_input_argument",
                    "message": "the number of input tokens 9000 cannot exceed the total tokens limit 8192",
                }
            ]
        },
    ),
    (
        "openai",
        "Databricks: the context window",
        PROMPT,
        400,
        {"error_code": "BAD_REQUEST", "message": "Input length exceeds maximum allowed context length: 32768"},
    ),
    (
        "openai",
        "Databricks: a guardrail",
        PROMPT,
        400,
        {"error_code": "BAD_REQUEST", "message": '{"finishReason":"input_guardrail_triggered"}'},
    ),
    (
        "openai",
        "Snowflake: the context window",
        PROMPT,
        400,
        {"message": "max tokens of 32768 exceeded", "error_code": "370001"},
    ),
    (
        "openai",
        "SiliconFlow: the context window",
        PROMPT,
        400,
        {"code": 20015, "message": "max_total_tokens (33000) must be less than or equal to max_seq_len (32768)"},
    ),
    (
        "gemini",
        "an error that is not nested",
        PROMPT,
        400,
        flat("The input token count exceeds the maximum number of tokens allowed."),
    ),
    ("ollama", "an error that is not nested", PROMPT, 400, {"message": "the input length exceeds the context length"}),
    ("openai", "a form that nobody knows", ACCESS, 400, {"fault": {"faultstring": "Body buffer overflow"}}),
    # Other words and languages.
    (
        "openai",
        "vLLM: a prompt that does not fit into the model",
        PROMPT,
        400,
        openai("The prompt (total length 40000) is too long to fit into the model (context length 32768)."),
    ),
    (
        "openai",
        "Moonshot: the context window",
        PROMPT,
        400,
        openai("Invalid request: Your request exceeded model token limit: 8192 (requested: 9000)"),
    ),
    ("openai", "Zhipu: the context window", PROMPT, 400, {"error": {"code": "1261", "message": "Prompt 超长"}}),
    (
        "openai",
        "Baidu: the context window",
        PROMPT,
        400,
        {"error": {"code": "336007", "message": "prompt tokens too long"}},
    ),
    (
        "openai",
        "Baidu: sensitive content",
        PROMPT,
        400,
        {"error": {"code": "336003", "message": "the content of the message is sensitive"}},
    ),
    (
        "openai",
        "Doubao: sensitive content",
        PROMPT,
        400,
        {
            "error": {
                "code": "InputTextSensitiveContentDetected",
                "message": "The request failed because the input text may contain sensitive information.",
            }
        },
    ),
    ("openai", "MiniMax: sensitive content", PROMPT, 400, openai("input new_sensitive (1026)")),
    (
        "openai",
        "StepFun: content that was censored",
        PROMPT,
        451,
        openai("The content you provided or machine outputted is blocked.", "censorship_blocked"),
    ),
    ("openai", "a reason of the law", ACCESS, 451, "Unavailable For Legal Reasons"),
    (
        "openai",
        "an image for a model without eyes",
        PROMPT,
        400,
        openai("Invalid content type. image_url is only supported by certain models."),
    ),
    (
        "ollama",
        "tools for a model without any",
        PROMPT,
        400,
        openai("registry.ollama.ai/library/gemma:2b does not support tools"),
    ),
    ("openai", "the context window in Chinese", PROMPT, 400, openai("输入内容长度超过模型支持的最大长度")),
    ("openai", "the context window in Japanese", PROMPT, 400, openai("入力がモデルのコンテキスト長を超えています")),
    ("openai", "the context window in Korean", PROMPT, 400, openai("입력 토큰이 최대 컨텍스트 길이를 초과했습니다")),
    (
        "openai",
        "the context window in German",
        PROMPT,
        400,
        openai("Die Eingabe überschreitet das Kontextfenster des Modells"),
    ),
    (
        "openai",
        "the context window in French",
        PROMPT,
        400,
        openai("La requête dépasse la fenêtre de contexte du modèle"),
    ),
    ("openai", "the context window in Spanish", PROMPT, 400, openai("El mensaje excede la ventana de contexto")),
    ("openai", "the context window in Portuguese", PROMPT, 400, openai("O prompt é muito longo")),
    ("openai", "the context window in Russian", PROMPT, 400, openai("Запрос превышает контекстное окно модели")),
    ("openai", "no balance, in Chinese", ACCESS, 400, openai("账户余额不足")),
    ("openai", "a parameter out of range, in Chinese", ACCESS, 400, openai("参数max_tokens超过最大值")),
    ("openrouter", "a wrong key, with status 200", ACCESS, 200, {"error": {"message": "User not found.", "code": 401}}),
)

ANSWERS: tuple[ProviderAnswer, ...] = tuple(ProviderAnswer(*cast("Any", row)) for row in _ROWS)
