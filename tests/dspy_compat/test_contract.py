"""An installed DSPy that differs from what the package knows is one clear error, and never a score."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.clients import execution

from simba_actors import Optimizer
from simba_actors.dspy_compat import MEMBERS, SUPPORTED, Member, check_dspy
from simba_actors.errors import InfrastructureError, UnsupportedDSPyError
from simba_actors.evaluation.executor import LocalExecutor, RolloutTask
from simba_actors.lm.governor import Governor
from simba_actors.lm.retry import Retry
from simba_actors.programs import ConfigurationSpace
from tests.support.quiz import exact, questions, quiz_script
from tests.support.runs import small_config
from tests.support.scripted_lm import ScriptedLM

FUNCTIONS = [member for member in MEMBERS if member.parameters is not None]
OTHERS = [member for member in MEMBERS if member.holds is not None]


def owner_and_name(member: Member) -> tuple[Any, str]:
    module, _, names = member.path.partition(":")
    owner: Any = importlib.import_module(module)
    *path, name = names.split(".")
    for part in path:
        owner = getattr(owner, part)
    return owner, name


def named(member: Member) -> str:
    return member.name.replace(".", r"\.")


def test_the_installed_dspy_is_as_expected() -> None:
    check_dspy()


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_a_member_that_is_gone_is_named(member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name = owner_and_name(member)
    for holder in {owner, *getattr(owner, "__mro__", ())}:
        if name in vars(holder) and holder is not object:
            monkeypatch.delattr(holder, name)
    with pytest.raises(UnsupportedDSPyError, match=name):
        check_dspy()


@pytest.mark.parametrize("member", FUNCTIONS, ids=lambda member: member.name)
def test_a_member_with_other_parameters_is_named(member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name = owner_and_name(member)
    monkeypatch.setattr(owner, name, lambda another, *parameters: None)
    with pytest.raises(UnsupportedDSPyError, match=f"{named(member)} takes .* install {SUPPORTED}"):
        check_dspy()


@pytest.mark.parametrize("member", OTHERS, ids=lambda member: member.name)
def test_a_member_that_means_something_else_is_named(member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name = owner_and_name(member)
    monkeypatch.setattr(owner, name, 0)
    with pytest.raises(UnsupportedDSPyError, match=named(member)):
        check_dspy()


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
async def test_no_run_begins_with_a_dspy_that_is_not_known(
    member: Member, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = small_config(tmp_path / "simba.db", run_id="r")
    owner, name = owner_and_name(member)
    monkeypatch.setattr(owner, name, lambda another, *parameters: None)
    with pytest.raises(UnsupportedDSPyError):
        await Optimizer.start(config)
    assert not (tmp_path / "simba.db").exists()


@pytest.mark.parametrize("name", ["prepare", "aexecute", "finalize", "_aattempt", "_price_result", "error_boundary"])
async def test_what_changes_while_a_run_is_up_is_no_score(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    student = dspy.Predict("question -> answer")
    space = ConfigurationSpace.from_module(student)
    executor = LocalExecutor(
        student=student,
        space=space,
        examples={"train": questions(1)},
        metric=exact,
        lms={"student": ScriptedLM(quiz_script)},
        governor=Governor(retry=Retry(attempts=2, base=0.001, longest=0.002)),
    )
    monkeypatch.setattr(execution, name, lambda another: None)
    with pytest.raises(InfrastructureError):
        await executor.run(RolloutTask(space.extract(student), 0))
