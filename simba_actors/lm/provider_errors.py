"""How providers report errors: the statuses, codes and phrases that `failures` classifies errors by.

`tests/lm/provider_answers.py` has the documented answers behind them.
"""

from __future__ import annotations

import re

PAYMENT_REQUIRED, NOT_IMPLEMENTED = 402, 501
CROWDED_STATUS = frozenset({429, 498, 503, 529})
"""Statuses that say "too much to do". 498 is Groq's for its flex tier, and 529 Anthropic's."""
PERSISTENT_STATUS = frozenset({401, 402, 403})
TRANSIENT_STATUS = frozenset({408, 409, 423, 424, 425, 499})
"""Statuses from 400 to 499 that say "not now": a model that is still loading, a dependency that failed, a timeout."""

SPENT_CODES = frozenset(
    {
        "insufficient_quota",
        "exceeded_current_quota_error",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
        "enforced_spend_limit_reached",
        "billing_hard_limit_reached",
        "billing_not_active",
        "budget_exceeded",
    }
)
"""Codes of OpenAI, Anthropic, Moonshot and LiteLLM for an account that has no money or no quota left."""

SPENT_PHRASES = (
    *SPENT_CODES,
    r"api usage limits",  # Anthropic
    r"(spend|spending|budget) (limit|cap)",
    r"(credits?|balance)( balance)?( is| are| has been)? (depleted|exhausted|too low)",
    r"insufficient (balance|credits?|funds)",
    r"no (prepaid |api )?credits (remain|left|available)",
    r"budget has been exceeded|exceeded ?budget|over budget|crossed budget",  # LiteLLM
    r"monthly|(per|/) ?month",
)
"""Phrases about an account that has no money or no quota left. They come with 429 too, and waiting does not help."""

SPENT_WORDS = re.compile("|".join(SPENT_PHRASES), re.IGNORECASE)

QUOTA_WORDS = re.compile(r"exceeded your current quota", re.IGNORECASE)
"""What OpenAI says of an empty account, and Gemini also of a limit per minute. Gemini then names a time to wait."""

OVERSIZED_WORDS = re.compile(
    r"request too large .{0,200}tokens per (min|day)|tokens must be reduced in order to run", re.IGNORECASE | re.DOTALL
)
"""What OpenAI and Groq say of one request that needs more tokens than the account has in a minute or day."""

PROMPT_STATUS = frozenset({400, 403, 413, 422, 451, 500})
"""Statuses with which providers refuse a prompt. Others come with messages that only sound like it: rate limits speak
of tokens and limits too. With 451 StepFun censors, and with 500 only servers of the llama.cpp family refuse, for a
prompt that is too long."""

PROMPT_CODES = frozenset(
    {
        "context_length_exceeded",
        "exceed_context_size_error",
        "request_too_large",
        "string_above_max_length",
        "content_filter",
        "content_policy_violation",
        "image_content_policy_violation",
        "invalid_prompt",
        "cyber_policy_violation",
        "data_inspection_failed",
        "DataInspectionFailed",
        "1261",  # Zhipu's for a prompt that is too long.
        "1301",  # Zhipu's for content that may be unsafe.
        "censorship_blocked",
        "json_validate_failed",  # The model's own reply is not JSON, or not a call of a tool.
        "tool_use_failed",
        "invalid_json_schema",
        "invalid_function_parameters",
        "invalid_base64",
        "invalid_image",
        "invalid_image_format",
        "invalid_image_url",
        "image_parse_error",
        "image_too_large",
        "image_too_small",
        "unsupported_image_media_type",
        "promptFeedback",  # What DSPy calls a prompt that Gemini has blocked.
    }
)
"""Codes of OpenAI, Azure, Anthropic, Groq, DashScope and llama.cpp for content that they can't take or make."""

BLOCKED_CANDIDATES = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "NO_IMAGE",
    }
)
"""Gemini's reasons for a reply that it holds back: https://ai.google.dev/api/generate-content#FinishReason."""

_CONTEXT = (
    r"(Kontext(fenster|länge)|fenêtre de contexte|longueur.{0,20}contexte|ventana de contexto|longitud.{0,20}contexto"
    r"|janela de contexto|finestra di contesto|контекстн\w+ окн)"
)
_EXCEEDS = r"(überschr|übersteig|dépass|exced|supera|ultrapass|превы)"
_TOO_LONG = r"(zu lang|trop long|demasiado larg|muito long|troppo lung|слишком длинн)"

TOO_LONG_ELSEWHERE = (
    r"超长|(上下文|长度|(?<!_)tokens?|输入|提示词|内容).{0,20}(过长|太长|超过|超出|超限)|(超过|超出).{0,20}(上下文|长度)",
    r"(コンテキスト|トークン|入力|プロンプト).{0,30}(超え|超過)|(入力|プロンプト)が長すぎ",
    r"(컨텍스트|토큰|입력|프롬프트).{0,30}(초과|너무 (깁|길))",
    rf"{_CONTEXT}.{{0,40}}{_EXCEEDS}|{_EXCEEDS}.{{0,60}}{_CONTEXT}|(prompt|eingabe|entrée|entrada).{{0,20}}{_TOO_LONG}",
)
"""The same in other languages, in which some providers and gateways answer."""

TOO_LONG_PHRASES = (
    r"(maximum|max|exceed\w*|available|beyond).{0,30}context (length|size|window)",
    r"context (length|window|size).{0,20}exceed",
    r"maximum context",
    r"too large for model with",
    r"(prompt|input|request|message|conversation|content)s?( tokens)?( \(.{0,40}\))? ((is|are) )?too (long|large|big)",
    r"too many (input )?tokens",
    r"input (token count|length|tokens).{0,80}exceed",
    r"token count is \d+ but (the )?model only supports",
    r"exceed\w* .{0,40}maximum (number of|input) tokens",
    r"exceed\w* (the )?model('s)? token limit",  # Moonshot
    r"tokens.{0,40} (cannot|can't|must not) exceed",  # Cohere, watsonx
    r"max(imum)? tokens of \d+ exceeded",  # Snowflake
    r"must be less than or equal to max_seq_len",  # SiliconFlow
    r"maximum prompt length|range of input length should be|payload size exceeds",
    r"context length of only",
    r"(greater|longer) than the (maximum model length|(model's )?context length)",
    r"max_tokens must be at least 1, got -",  # What vLLM has left for the reply.
    r"reduce the length of",
    r"max_new_tokens` must be|inputs` must have less than",
    r"string too long",
    r"ContextWindowExceeded",
    *TOO_LONG_ELSEWHERE,
)
"""Phrases of errors about prompts that are longer than the model's context window."""

PROMPT_PHRASES = (
    *TOO_LONG_PHRASES,
    # Filtered.
    r"content[ _]?(management )?(policy|filter)",
    r"violated guardrail|guardrail_(intervened|triggered)",
    r"may contain sensitive|SensitiveContentDetected",  # Doubao
    r"content .{0,20}is sensitive|new_sensitive",  # Baidu, MiniMax
    r"(provided|outputted|generated).{0,40} (is|was) blocked",  # StepFun
    r"敏感|不安全|违规|违反.{0,20}(法|政策|规定)|内容(审核|安全)",
    r"responsible ?ai",
    r"(prompt|input|content|output)s? ((was|were|is|has been|have been) )?(flagged|blocked|filtered)",
    r"potentially violating|violat\w+ .{0,40}(usage|content|safety) polic",
    r"safety system",
    r"for safety reasons",
    r"violates usage guidelines",  # xAI
    r"content exists risk",  # DeepSeek
    r"considered high risk",  # Moonshot
    # Malformed.
    r"invalid schema for",
    r"could not process (image|pdf|document)",
    r"(unsupported|invalid) image|image .{0,30}(exceeds?|too large)",
    r"at most \d+ (image|audio|video)|not a multimodal model|too many images|maximum of \d+ PDF pages",
    r"too many states for serving",
    r"must have a text parameter|cannot end with trailing whitespace",
    r"(does not|doesn't|not) support .{0,20}(image|audio|vision|pdf|document|file|tools|function call)",
    r"(image|audio|file|video)\w* is only supported by",
    r"text field in the ContentBlock object at \S+ is blank",
    r"(text content blocks|messages?) must (be non-empty|contain non-whitespace|have non-empty)",
    r"not valid unicode|surrogates not allowed",
)
"""Phrases of providers' errors about prompts that they can't answer."""

PROMPT_WORDS = re.compile("|".join(PROMPT_PHRASES), re.IGNORECASE | re.DOTALL)
TOO_LONG_WORDS = re.compile("|".join(TOO_LONG_PHRASES), re.IGNORECASE | re.DOTALL)

FLAGGED_WORDS = re.compile(
    r"requires moderation|(input|prompt|content|request|message)s? (was |were |is |has been )?flagged"
    r"|violated guardrail|violates usage guidelines|content[ _]?filter",
    re.IGNORECASE,
)
"""Phrases of OpenRouter, xAI and proxies with status 403, which otherwise means that access is denied."""

NOT_NOW_WORDS = re.compile(
    r"rate.?limit|throttl|per (minute|min|second|day)|please wait|overloaded|at capacity|temporarily"
    r"|(try again|retry) (later|in|after|shortly)|please (try again|retry)(?! with)|(is|still|being) load(ing|ed)",
    re.IGNORECASE,
)
"""Phrases of errors after which the same request may succeed later, with any status."""

WAIT_WORDS = re.compile(
    r"(?:try again|retry) (?:in|after) "
    r"((?:\d+(?:\.\d+)? ?(?:ms|s(?:ec|econd)?s?|m(?:in|inute)?s?|h(?:our)?s?|d(?:ay)?s?)(?![a-z]) ?)+)",
    re.IGNORECASE,
)
"""A time to wait in the words of an error, as in "try again in 7m12s" or "retry after 37 seconds"."""

WAIT_PARTS = re.compile(r"(\d+(?:\.\d+)?) ?(ms|[smhd])", re.IGNORECASE)

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
