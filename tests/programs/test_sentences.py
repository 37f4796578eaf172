"""Instructions are taken apart into sentences, and put together again without some of them."""

from __future__ import annotations

import itertools

import pytest

from simba_actors.programs import Configuration
from simba_actors.programs.parts import assemble, omissions, parts_of
from simba_actors.programs.sentences import MOST_SENTENCES, omitted_from, sentences_of, without

SPLIT: dict[str, tuple[str, list[str]]] = {
    "sentences": ("Be brief. Be kind! Is it so?", ["Be brief.", "Be kind!", "Is it so?"]),
    "lines": ("# Rules\n- Be brief\n\n- Be kind", ["# Rules", "- Be brief", "- Be kind"]),
    "numbers_and_abbreviations": ("Use 3.5 as e.g.the mean", ["Use 3.5 as e.g.the mean"]),
    "a_quoted_end": ('Say "no." Then stop.', ['Say "no."', "Then stop."]),
    "one": ("Be brief", ["Be brief"]),
    "none": ("", []),
    "what_dspy_writes": ("Given the fields `question`, produce the fields `answer`.", []),
}


@pytest.mark.parametrize("case", SPLIT)
def test_sentences_and_lines_are_told_apart(case: str) -> None:
    text, sentences = SPLIT[case]
    assert list(sentences_of(text)) == sentences


def test_long_instructions_fall_into_few_groups() -> None:
    text = " ".join(f"Mind {n}." for n in range(100))
    assert len(sentences_of(text)) <= MOST_SENTENCES
    assert "".join(sentences_of(text)).replace(" ", "") == text.replace(" ", "")


TEXTS = [
    "Be brief. Be kind. Be exact.",
    "# Rules\n\n- Be brief.\n- Be brief, really.\n\nEnd",
    "Be brief. Be brief. Be kind.",
]
RULES = ["", "\n\nMind the units.", "\n\nBe kind.\n\nBe brief."]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("rules", RULES)
def test_what_was_omitted_is_found_again(text: str, rules: str) -> None:
    sentences = list(dict.fromkeys(sentences_of(text)))
    for count in range(1, len(sentences) + 1):
        for omitted in itertools.combinations(sentences, count):
            found = omitted_from(without(text, omitted) + rules, text)
            assert found is not None
            assert (set(found[0]), found[1]) == (set(omitted), rules)


def test_another_text_omits_nothing() -> None:
    assert omitted_from("Answer in French.", "Be brief. Be kind.") is None


def test_a_configuration_is_put_together_again_from_its_parts() -> None:
    student = Configuration.of({"self": ("Be brief. Be kind. Be exact.", [])})
    made = student.with_instructions("self", "Be brief. Be exact.\n\nMind the units.")
    parts = parts_of(made, student)
    assert [(entry.part.kind, entry.value) for entry in parts] == [
        ("omission", "Be kind."),
        ("rule", "Mind the units."),
    ]
    assert assemble(parts, student) == made


def test_each_sentence_of_each_predictor_can_be_omitted() -> None:
    student = Configuration.of({"one": ("Be brief. Be kind.", []), "two": ("Be exact.", [])})
    assert [(entry.part.predictor, entry.value) for entry in omissions(student)] == [
        ("one", "Be brief."),
        ("one", "Be kind."),
        ("two", "Be exact."),
    ]
