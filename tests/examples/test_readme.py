"""The README's first block of code, run as it stands, with a provider on loopback in place of OpenAI."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.openai_server import OpenAIServer
from tests.support.scripted_lm import Ask

README = Path(__file__).parents[2] / "README.md"
RED = ("paid", "Refund", "invoice")


def follows_the_house_rule_with_demos(ask: Ask) -> dict[str, Any]:
    """Say "blue" unless the prompt has demos; its rules are of no use."""
    if "module_advice" in ask.fields:
        return {"discussion": "", "module_advice": {"self": "Choose the right team."}}
    if "merged_rules" in ask.fields:
        return {"merged_rules": ["Choose the right team."]}
    has_demos = any(role == "assistant" for role, _ in ask.messages)
    return {"team": "red" if has_demos and any(word in ask.input("message") for word in RED) else "blue"}


def labels(result: str) -> list[str]:
    """Return the words that a printed result begins its lines with; its figures depend on the version."""
    return re.findall(r"^\w[\w -]*(?=:)|^run(?= ')", result, re.MULTILINE)


def test_the_first_block_of_code_prints_what_the_readme_shows(tmp_path: Path) -> None:
    code, shown = re.findall(r"```(?:python)?\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[:2]
    with OpenAIServer(follows_the_house_rule_with_demos) as provider:
        own = {"OPENAI_API_BASE": provider.address, "OPENAI_API_KEY": "none", "DSPY_CACHEDIR": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert labels(done.stdout) == labels(shown), done.stdout
    assert float(re.findall(r"^winner: +([\d.]+)", done.stdout, re.MULTILINE)[0]) > 0.8
