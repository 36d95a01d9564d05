"""Token ids out of a transformers encoder-decoder: greedy, sampled and by beams, with raw log-probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pocketseq_distill.special_ids import SpecialIds, without_defaults

if TYPE_CHECKING:
    import torch

_SCORED_TOKENS: Final = 16_384
"""Tokens of finished answers whose distributions exist at a time; over 32,000 tokens that is 2 GB in float32."""

_COLDEST: Final = 1e-6
"""Lowest temperature at which tokens are drawn; far below it float32 cannot hold what is divided by it."""

OnToken: TypeAlias = Callable[[int, int, float], bool]
"""Called as ``(row, token, logprob)`` for every emitted token; False ends that row at once."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One sequence to answer, with settings of its own, so that unlike requests can share a batch."""

    ids: Sequence[int]
    """Token ids as the encoder reads them."""
    max_new_tokens: int
    """Tokens to emit at most, the end token counted."""
    temperature: float = 0.0
    """0 takes the likeliest token, and so does what is next to it; above, tokens are drawn from the distribution at it."""
    seed: int = 0
    """Fixes what is drawn, whatever else is in the batch."""


@dataclass(frozen=True, slots=True)
class Emission:
    """Tokens that a model emitted for one prompt."""

    tokens: list[int] = field(default_factory=list)
    """Token ids, the end token included where it was emitted."""
    logprobs: list[float] = field(default_factory=list)
    """Log-probability of each token under the raw distribution (temperature 1, nothing banned)."""


@cache
def cache_name() -> str:
    """What transformers calls the keys and values of the tokens so far: ``past_key_values``, and ``cache`` since 5.24."""
    from transformers.modeling_outputs import Seq2SeqLMOutput

    return "cache" if "cache" in {each.name for each in fields(Seq2SeqLMOutput)} else "past_key_values"


class Decoder:
    """A transformers encoder-decoder with the special ids that its configuration names."""

    def __init__(self, model: Any) -> None:
        """Read the special ids of a model.

        Args:
            model: A transformers encoder-decoder with a language-model head; it is set to evaluation.

        Raises:
            CheckpointError: no start or no end token is configured.
        """
        self.model = model.eval()
        self._special = SpecialIds.of(model)

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return self._special.ends

    def decode(self, prompts: Sequence[Prompt], on_token: OnToken | None = None) -> list[Emission]:
        """Decode one batch greedily or by sampling; a row leaves the batch when it ends.

        Args:
            prompts: What to answer, each with its own budget, temperature and seed.
            on_token: Told of every token as it is emitted, and asked whether its row goes on.
        """
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        emissions = [Emission() for _ in prompts]
        generators = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
        rows = [row for row, prompt in enumerate(prompts) if prompt.max_new_tokens > 0]
        if not rows:
            return emissions
        with torch.inference_mode():
            ids, mask = self._pad([prompts[row].ids for row in rows])
            memory = self._encode(ids, mask)
            last = torch.full((len(rows), 1), self._special.start, device=ids.device)
            past, step = None, 0
            while rows:
                output = self.model(
                    encoder_outputs=BaseModelOutput(last_hidden_state=memory),
                    attention_mask=mask,
                    decoder_input_ids=last,
                    use_cache=True,
                    **{cache_name(): past},
                )
                past = output[cache_name()]
                logprobs = output.logits[:, -1].float().log_softmax(-1)
                chosen = self._choose(logprobs, [prompts[row] for row in rows], [generators[row] for row in rows], first=step == 0)
                step += 1
                keep = []
                scores = logprobs.gather(1, chosen[:, None])[:, 0].tolist()
                for place, (row, token, score) in enumerate(zip(rows, chosen.tolist(), scores, strict=True)):
                    emissions[row].tokens.append(token)
                    emissions[row].logprobs.append(score)
                    wanted = on_token is None or on_token(row, token, score)
                    if wanted and token not in self.end_ids and step < prompts[row].max_new_tokens:
                        keep.append(place)
                if keep and len(keep) < len(rows):
                    index = torch.tensor(keep, device=ids.device)
                    past.batch_select_indices(index)
                    memory, mask, chosen = memory[index], mask[index], chosen[index]
                rows = [rows[place] for place in keep]
                last = chosen[:, None]
        return emissions

    def search(self, prompts: Sequence[Prompt], *, beams: int, best: int = 1) -> list[list[Emission]]:
        """Answer one batch by beam search; the budget is the largest among the prompts.

        The log-probabilities come from one pass over the finished answers, since beams hold penalised sums only.

        Args:
            prompts: What to answer.
            beams: Answers that are followed at a time.
            best: Answers to give for each prompt, at most ``beams``.

        Returns:
            The best answers of each prompt, best first.
        """
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        settings = self._special.asking(
            num_beams=beams, num_return_sequences=best, max_new_tokens=max(prompt.max_new_tokens for prompt in prompts)
        )
        with torch.inference_mode(), without_defaults(self.model):
            ids, mask = self._pad([prompt.ids for prompt in prompts])
            memory = self._encode(ids, mask)
            # generate() repeats the memory in place for its beams, hence an output object of its own
            sequences = self.model.generate(
                encoder_outputs=BaseModelOutput(last_hidden_state=memory), attention_mask=mask, generation_config=settings
            )
            memory, mask = memory.repeat_interleave(best, dim=0), mask.repeat_interleave(best, dim=0)
            size = max(1, _SCORED_TOKENS // sequences.size(1))
            logprobs = torch.cat(
                [
                    self._score(memory[begin : begin + size], mask[begin : begin + size], sequences[begin : begin + size])
                    for begin in range(0, len(sequences), size)
                ]
            )
        emissions = []
        for tokens, scores in zip(sequences[:, 1:].tolist(), logprobs.tolist(), strict=True):
            length = next((place + 1 for place, token in enumerate(tokens) if token in self.end_ids), len(tokens))
            emissions.append(Emission(tokens[:length], scores[:length]))
        return [emissions[begin : begin + best] for begin in range(0, len(emissions), best)]

    def _score(self, memory: torch.Tensor, mask: torch.Tensor, sequences: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [rows, tokens] of sequences [rows, 1 + tokens] that begin with the start token."""
        from transformers.modeling_outputs import BaseModelOutput

        logits = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=memory), attention_mask=mask, decoder_input_ids=sequences[:, :-1]
        ).logits
        found: torch.Tensor = logits.float().log_softmax(-1).gather(2, sequences[:, 1:, None])[:, :, 0]
        return found

    def _encode(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Last encoder state [rows, source, width]."""
        state: torch.Tensor = self.model.get_encoder()(input_ids=ids, attention_mask=mask, return_dict=True).last_hidden_state
        return state

    def _choose(
        self, logprobs: torch.Tensor, prompts: Sequence[Prompt], generators: Sequence[torch.Generator], *, first: bool
    ) -> torch.Tensor:
        """Choose a token for each row of ``logprobs`` [rows, vocabulary]."""
        import torch

        if first and self._special.first is not None:
            return torch.full((len(prompts),), self._special.first, device=logprobs.device)
        if self._special.banned:
            logprobs = logprobs.index_fill(1, torch.tensor(self._special.banned, device=logprobs.device), float("-inf"))
        chosen = logprobs.argmax(-1)
        drawn = [place for place, prompt in enumerate(prompts) if prompt.temperature >= _COLDEST]
        if drawn:
            places = torch.tensor(drawn, device=logprobs.device)
            temperatures = torch.tensor([[prompts[place].temperature] for place in drawn], device=logprobs.device)
            # Each row has one number of its own generator, and the distribution stays where it is, for all rows at once.
            points = torch.stack([torch.rand(1, generator=generators[place]) for place in drawn]).to(logprobs.device)
            below = (logprobs[places] / temperatures).softmax(-1).cumsum(-1)
            chosen[places] = (below <= points * below[:, -1:]).sum(-1).clamp(max=below.size(1) - 1)
        return chosen

    def _pad(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Pad on the right: ids and mask, int64 [rows, longest]."""
        import torch

        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[self._special.pad] * (longest - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        return ids.to(self.model.device), mask.to(self.model.device)
