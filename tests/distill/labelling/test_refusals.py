"""Refusals are told from answers by how they begin."""

from __future__ import annotations

import pytest

from pocketseq_distill.labelling.refusals import refuses


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.",
        "I\u2019m really sorry, I cannot comply with your request.",
        "Sorry, but I can't help with that.",
        "Unfortunately, I cannot fulfill this request.",
        "I am unable to provide a translation of this text.",
        "My apologies, but I won't generate such content.",
        "As an AI language model, I cannot write code that deletes files.",
        "I'm sorry, but as an AI language model, I am not able to generate that.",
        '"I cannot translate this"',
        "I'm just an AI, and this is a matter of taste.",
        "I'm afraid I can't do that.",
        "I cannot provide such information.",
        "I am an AI assistant.",
    ],
)
def test_a_refusal_is_known_by_its_beginning(text: str) -> None:
    assert refuses(text)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry to hear that.",
        "I can't answer the phone now, I'm sorry.",
        "I cannot write a letter.",
        "I'm afraid of dogs.",
        "As an aid to memory.",
        "As an air force, we cannot provide this.",
        "Unfortunately, the train was late.",
        "I can't give you that.",
        "I cannot do that anymore.",
        "I will not answer your question.",
        "I cannot share your opinion on this report.",
        "We will not give up these rights.",
        "We can't continue like this.",
        "Sorry, we cannot assist passengers with pets.",
        "As an AI researcher, she works at a university.",
        "I am an AI fan.",
        "for i in range(10):  # I cannot help with that",
        'raise ValueError("I cannot do that")',
        "",
    ],
)
def test_people_and_code_do_not_refuse(text: str) -> None:
    """Who speaks of what he cannot does not point at a question, and what answers first has answered."""
    assert not refuses(text)
