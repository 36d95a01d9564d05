"""Which teacher a recipe names: the table ``[teacher]``, which can be read without a training library."""

from __future__ import annotations

from dataclasses import dataclass

from pocketseq.errors import RecipeError
from pocketseq_distill.checkpoints import Average
from pocketseq_distill.corpus.vocabulary import Units
from pocketseq_distill.labelling.causal import CausalSettings
from pocketseq_distill.labelling.endpoint import EndpointSettings


@dataclass(frozen=True, slots=True)
class TeacherSettings:
    """Which teacher to take, or what to build."""

    checkpoint: str | None = None
    """Name of a shipped teacher, a directory, or a hub id, to be taken as it is; None trains one."""
    start: str | None = None
    """The same for a teacher whose training goes on, with its vocabulary and shape; None starts from nothing."""
    start_share: float = 0.0
    """Share of the weights of ``start`` in what the training ends as. Rows of another kind teach something and unteach something;
    between both weights lie models that do each by half (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models")."""
    trim: bool = False
    """Leave only those tokens of ``checkpoint`` that the corpus uses (see ``trimming``)."""
    vocab_size: int = 4096
    """Tokens of the vocabulary that is trained with it."""
    units: Units = "lexemes"
    """What a token never spans two of; ``characters`` where spelling is what the task is about."""
    d_model: int = 256
    """Width."""
    d_ff: int = 1024
    """Width of the feed-forward layers."""
    heads: int = 8
    """Attention heads; they share the width evenly."""
    encoder_layers: int = 6
    decoder_layers: int = 2
    dropout: float = 0.0
    """Share of activations dropped in training; none where no row is seen twice."""
    members: int = 1
    """Teachers of this shape that are trained, each by a seed of its own, and answer as one."""
    ensemble: EnsembleSettings | None = None
    """Several checkpoints that answer as one, in place of ``checkpoint``."""
    causal: CausalSettings | None = None
    """A causal language model that answers through text; what the rest of this table names is then what students are cut from."""
    endpoint: EndpointSettings | None = None
    """The same behind an OpenAI-compatible API."""
    function: str | None = None
    """The same of a Python function, as ``package.module:function``; it is imported and run."""

    def __post_init__(self) -> None:
        given = [name for name in ("causal", "endpoint", "function") if getattr(self, name) is not None]
        if len(given) > 1:
            raise RecipeError(f"[teacher]: expected one teacher through text, found {given}; leave all but one out")
        if self.ensemble is not None and (self.checkpoint or self.start or self.trim):
            raise RecipeError("[teacher]: expected ensemble alone, found checkpoint, start or trim beside it; leave them out")
        if self.checkpoint and self.start:
            raise RecipeError(
                f"[teacher]: expected checkpoint, which is taken as it is, or start, whose training goes on, found "
                f"{self.checkpoint!r} and {self.start!r}; leave one of them out"
            )
        if self.trim and not self.checkpoint:
            raise RecipeError("[teacher]: expected a checkpoint beside trim, whose vocabulary is cut, found none")
        if self.members < 1 or (self.members > 1 and (self.checkpoint or self.ensemble)):
            raise RecipeError(
                f"[teacher]: expected members of 1 or more, for teachers that are trained, found {self.members} and "
                f"checkpoint = {self.checkpoint!r}; to join checkpoints name them as ensemble = {{ members = [...] }}"
            )
        if not 0 <= self.start_share < 1 or (self.start_share and self.start is None):
            raise RecipeError(
                f"[teacher]: expected start_share from 0 to below 1, and start beside it, found {self.start_share} "
                f"and start = {self.start!r}"
            )

    @property
    def through_text(self) -> bool:
        """Whether the answers come from a teacher with no distribution over the student's tokens."""
        return self.causal is not None or self.endpoint is not None or self.function is not None


@dataclass(frozen=True, slots=True)
class EnsembleSettings:
    """Which checkpoints answer as one."""

    members: tuple[str, ...]
    """Two or more, each named as a teacher is, of one vocabulary; students are cut from the first."""
    average: Average = "probabilities"
    """Of what the average is taken."""
