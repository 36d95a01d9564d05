"""What answers for the cloud in a replay: a simulated one that knows what was meant, or a real endpoint."""

from __future__ import annotations

import random

from pocketseq.endpoint import Completion
from pocketseq.testing import FakeEndpoint
from pocketseq_bench.replay.session import Keystroke


class KnowingCloud:
    """An ``Endpoint`` that is told what was meant, and says so in a given share of cases; otherwise it changes nothing."""

    url = FakeEndpoint.url

    def __init__(self, *, accuracy: float, primary: str, seed: int = 0) -> None:
        """Make one.

        Args:
            accuracy: Share of right answers.
            primary: Field that is answered.
            seed: Of the choice.
        """
        self._accuracy = accuracy
        self._primary = primary
        self._seed = seed
        self._key: Keystroke | None = None
        self._meant = ""

    def expect(self, key: Keystroke, meant: str) -> None:
        """Tell what the next question will be about."""
        self._key, self._meant = key, meant

    def complete(
        self, prompt: str, *, instruction: str = "", max_tokens: int | None = None, deadline_s: float | None = None
    ) -> Completion:
        """Answer; see ``Endpoint.complete``."""
        assert self._key is not None, "expect() comes first"
        given = self._key.fields[self._primary]
        # By the place in the session, so that the same question has the same answer at every threshold.
        knows = random.Random(f"{self._seed} {self._key.at_ms}").random() < self._accuracy
        text = self._meant if knows else given
        return FakeEndpoint(text).complete(prompt, instruction=instruction, max_tokens=max_tokens, deadline_s=deadline_s)
