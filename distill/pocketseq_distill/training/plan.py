"""The plan of a training: everything that decides what comes out of it, apart from the rows and the model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from pocketseq.errors import RecipeError
from pocketseq_distill.losses.weights import Divergence, LossWeights

Optimizer: TypeAlias = Literal["adamw", "muon"]
Schedule: TypeAlias = Literal["cosine", "linear", "inverse-sqrt", "constant"]

Judge: TypeAlias = Literal["exact_match", "chrf"]
Tracker: TypeAlias = Literal["tensorboard", "wandb", "mlflow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """How long, how fast and on what loss to train."""

    steps: int
    """Updates of the weights."""
    batch_size: int = 64
    """Rows that go through the model together, per process."""
    tokens_at_once: int | None = None
    """Padded tokens of the longer side that go through the model together: a batch of rows longer than that goes in parts, whose
    gradients add up to its own, so that the longest batch decides neither batch size nor memory. For one process; None sets no
    bound."""
    accumulation: int = 1
    """Batches whose gradients make up one update."""
    optimizer: Optimizer = "adamw"
    """``muon`` orthogonalises the updates of matrices, which learns a task from nothing in far fewer rows (see ``optimizers``)."""
    learning_rate: float = 1e-3
    """Peak learning rate; with ``muon`` that of the matrices."""
    warmup_steps: int = 100
    """Updates over which the learning rate rises to its peak."""
    schedule: Schedule = "cosine"
    """How the learning rate falls afterwards; by time where ``max_minutes`` runs out before the steps do."""
    weight_decay: float = 0.01
    """Decoupled weight decay of AdamW."""
    beta2: float = 0.98
    """Decay of AdamW's second moment; 0.98 settles sooner than 0.999, which short trainings need."""
    clip_norm: float = 1.0
    """Largest norm of an update's gradient; 0 does not clip."""
    cross_entropy: float = 1.0
    """Weight of the cross-entropy with the label."""
    divergence: float = 0.0
    """Weight of the divergence from the teacher; zero needs no teacher."""
    divergence_kind: Divergence = "forward_kl"
    """Which divergence (see ``losses``)."""
    beta: float = 0.5
    """β of the Jensen-Shannon divergence."""
    temperature: float = 1.0
    """Temperature at which student and teacher are compared."""
    top_k: int | None = None
    """The teacher's likeliest tokens at every label, computed once before training and kept on disk; None asks the teacher for
    all of its distribution as the batches come. Worth it for several epochs, or a teacher much larger than the student."""
    hidden: float = 0.0
    """Weight of the hidden-state loss between layers that stand in for one another (see ``matching``); needs the teacher itself."""
    attention: float = 0.0
    """Weight of the same for where they look; it makes student and teacher compute attention the slow way."""
    doubt: float = 0.0
    """Weight of the term that makes the student sure where it is right and unsure where it is wrong (see ``losses.doubt``)."""
    doubt_balance: float = 0.5
    """Share of that term for being sure; the smaller, the more a wrong token's doubt counts."""
    spans: float = 0.0
    """Weight of the divergence on spans, for a student with a vocabulary of its own (see ``spans``)."""
    on_policy: float = 0.0
    """λ, the share of updates in which the student answers itself and learns from its teacher alone (see ``on_policy``)."""
    on_policy_from: float = 0.0
    """Share of the training that comes before them: λ is zero up to there. Such as 0.8, when its answers are worth correcting."""
    label_smoothing: float = 0.0
    """Share of a label's probability that is spread over the vocabulary."""
    frozen_encoder_steps: int = 0
    """First updates in which encoder and embeddings stand still: a copied encoder need not be unlearnt, and costs little."""
    average: float | None = None
    """Decay of a moving average of the weights, which is validated and kept in their place, such as 0.999; None keeps none."""
    int8_steps: int = 0
    """Updates after the training with weights and activations rounded as the int8 export rounds them; kept where the validation
    finds the rounded student better for it (see ``rounding``)."""
    bf16: bool = True
    """Compute products in bfloat16 where the device has instructions for it; weights and optimiser stay in float32."""
    seed: int = 0
    """Seed of the order of rows and of dropout."""
    max_minutes: float | None = None
    """Wall-clock budget, interrupted runs counted together; None trains all steps."""
    validate_every: int | None = None
    """Updates between validations; None validates never."""
    validation_rows: int = 500
    """Held-out rows that a validation answers."""
    judged_by: Judge = "exact_match"
    """Measure of a validation that tells which checkpoint is best: ``chrf`` where right answers come in many wordings."""
    patience: int | None = None
    """Validations without a better result after which training stops; None never stops early."""
    save_every_minutes: float = 5.0
    """Minutes of training that a kill may cost at most."""
    report_to: tuple[Tracker, ...] = ()
    """Trackers that are told of loss and validation as well; each has an extra of its name."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation"):
            if getattr(self, name) < 1:
                raise RecipeError(f"training plan: expected {name} of 1 or more, found {getattr(self, name)}")
        if self.tokens_at_once is not None and self.tokens_at_once < 1:
            raise RecipeError(f"training plan: expected tokens_at_once of 1 or more, found {self.tokens_at_once}")
        if self.patience is not None and self.validate_every is None:
            raise RecipeError("training plan: patience counts validations; give validate_every too, or leave patience out")
        if self.temperature <= 0:
            raise RecipeError(f"training plan: expected a temperature above 0, found {self.temperature}")
        if not 0 <= self.doubt_balance <= 1:
            raise RecipeError(f"training plan: expected doubt_balance from 0 to 1, found {self.doubt_balance}")
        if self.average is not None and not 0 < self.average < 1:
            raise RecipeError(f"training plan: expected average between 0 and 1, found {self.average}")
        if self.int8_steps and self.validate_every is None:
            raise RecipeError("training plan: int8_steps are kept where they are measured better; give validate_every too")
        if (self.hidden or self.attention) and (self.top_k is not None or self.on_policy):
            raise RecipeError(
                "training plan: hidden and attention compare with the teacher's own layers on the labels; "
                "leave top_k and on_policy out"
            )
        if self.cross_entropy <= 0 and self.divergence <= 0:
            raise RecipeError("training plan: expected a weight above 0 for cross_entropy or divergence, found none")
        if self.on_policy and (not self.divergence or self.top_k is not None):
            raise RecipeError(
                "training plan: on_policy asks the teacher about answers that nobody knows beforehand; "
                "give divergence a weight, and leave top_k out"
            )
        if not 0 <= self.on_policy_from < 1:
            raise RecipeError(f"training plan: expected on_policy_from of 0 or more and below 1, found {self.on_policy_from}")
        if not 0 < self.beta < 1:
            raise RecipeError(f"training plan: expected beta between 0 and 1, found {self.beta}")
        if self.top_k is not None and self.temperature != 1:
            raise RecipeError(
                f"training plan: expected temperature 1 with top_k, since the rest of the distribution is not known at another, "
                f"found {self.temperature}; leave one of them out"
            )

    @property
    def loss(self) -> LossWeights:
        """How the losses are mixed."""
        return LossWeights(
            cross_entropy=self.cross_entropy,
            divergence=self.divergence,
            kind=self.divergence_kind,
            beta=self.beta,
            temperature=self.temperature,
            smoothing=self.label_smoothing,
            doubt=self.doubt,
            balance=self.doubt_balance,
        )

    def require_no_teacher(self, where: str) -> None:
        """Refuse losses that only a teacher's distribution or states can give.

        Args:
            where: The table that the plan stands in, and why there is no teacher, for the message.

        Raises:
            RecipeError: one of them has a weight.
        """
        names = ("divergence", "hidden", "attention", "spans")
        if asked := {name: weight for name in names if (weight := getattr(self, name))}:
            raise RecipeError(f"{where}: expected {' and '.join(f'{name} = 0' for name in asked)}, found {asked}; leave them out")

    def require_readable(self, *, own_vocabulary: bool) -> None:
        """Refuse losses that do not go with the student's vocabulary.

        Args:
            own_vocabulary: Whether it has one of its own, and not its teacher's.

        Raises:
            RecipeError: it learns from spans in its teacher's tokens, or from distributions, states or attention in its own.
        """
        if self.spans and not own_vocabulary:
            raise RecipeError(
                "training plan: spans are for a student with a vocabulary of its own; use divergence, or give vocab_size"
            )
        if own_vocabulary and (self.divergence or self.hidden or self.attention):
            raise RecipeError(
                "training plan: a student with a vocabulary of its own cannot be compared with its teacher token by token; "
                "leave divergence, hidden and attention out, and give spans a weight"
            )

    def to_json(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        return asdict(self)

    @property
    def course(self) -> dict[str, Any]:
        """What decides the course of the weights, without how long it is followed and what comes after it.

        A longer plan goes on from a shorter one, and one with ``int8_steps`` from one without.
        """
        whole = self.to_json()
        for name in (
            "steps",
            "max_minutes",
            "validate_every",
            "validation_rows",
            "patience",
            "save_every_minutes",
            "report_to",
            "int8_steps",
        ):
            del whole[name]
        return whole
