"""Muon: updates of weight matrices made orthogonal, so that directions with small gradients are learnt as fast as large ones.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". What is no hidden matrix goes by AdamW (Loshchilov
and Hutter 2019). For a T5 trained from nothing on a CPU's budget the rates matter as much as the method: its embeddings begin at
a standard deviation of 1 and its table of relative positions must move by several units before a head looks at a neighbour, so
both need far larger steps than the gains of the norms.

Every step is one call for all of a group's tensors: on an accelerator hundreds of kernels for tensors of a few kilobytes each would
take longer than the products.

Projections into attention heads, and out of them, are as many matrices as there are heads: each head's part is made orthogonal by
itself. No direction of one head has to make room for another's, and the products are those of the heads' small width, so that
an update costs about half.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pocketseq_distill.precision import has_bf16

_EMBEDDING_RATE: Final = 1.25
"""Rate of token embeddings, in units of that of the matrices."""
_POSITION_RATE: Final = 5.0
"""Rate of tables of relative positions."""
_OTHER_RATE: Final = 0.25
"""Rate of norms and biases."""
_PROJECTIONS: Final = {
    **dict.fromkeys(("q", "k", "v", "q_proj", "k_proj", "v_proj"), True),
    **dict.fromkeys(("o", "out_proj"), False),
}
"""Names that transformers gives to the projections of attention, and whether they lead into the heads."""
_QUINTICS: Final = (
    (8.3007, -24.0372, 17.4661),
    (4.0034, -2.9228, 0.5419),
    (3.4709, -2.5494, 0.5002),
    (2.4901, -1.8343, 0.4368),
)
"""Coefficients of x, x³ and x⁵ in the iterations that make a matrix orthogonal. Each is the odd quintic that comes nearest to 1,
in the greatest difference, over the interval that the one before leaves of [0.003, 1] (Amsel et al. 2025, "The Polar Express:
Optimal Matrix Sign Methods and Their Application to the Muon Algorithm"); all but the last are for arguments 1% larger, as
rounding makes them. Four of them leave [0.80, 1.20], where five of the fixed one of Jordan et al. leave [0.68, 1.20]."""


class Muon(Optimizer):
    """Muon for the matrices of a model and AdamW for the rest, as one optimiser with one state."""

    def __init__(
        self,
        model: nn.Module,
        *,
        learning_rate: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.01,
    ) -> None:
        """Divide a model's parameters by role.

        Args:
            model: Its trainable parameters are updated.
            learning_rate: Rate of the matrices; the other rates follow from it.
            momentum: Of the matrices' gradients; Nesterov's.
            betas: Decay of AdamW's moments.
            weight_decay: Decoupled weight decay of the matrices.
        """
        roles = _by_role(model)
        groups = [
            {"params": roles["matrix"], "lr": learning_rate, "weight_decay": weight_decay, "orthogonal": True},
            {"params": roles["embedding"], "lr": learning_rate * _EMBEDDING_RATE},
            {"params": roles["position"], "lr": learning_rate * _POSITION_RATE},
            {"params": roles["other"], "lr": learning_rate * _OTHER_RATE},
        ]
        defaults = {"momentum": momentum, "betas": betas, "eps": 1e-8, "weight_decay": 0.0, "orthogonal": False}
        super().__init__([group for group in groups if group["params"]], defaults)
        self._heads = _by_head(model)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Make one update from the gradients that the parameters hold."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            if group["orthogonal"]:
                self._orthogonal(parameters, group)
            else:
                self._adamw(parameters, group)
        return loss

    def _orthogonal(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [_gradient(parameter) for parameter in parameters]
        momenta = [self._state_of(parameter, "momentum")["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        directions = torch._foreach_lerp(gradients, momenta, group["momentum"])
        alike: defaultdict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter, direction in zip(parameters, directions, strict=True):
            parts = _parts(direction, self._heads.get(id(parameter)))
            alike[parts.shape[1:]].append((parameter, parts))
        changed: list[Tensor] = []
        updates: list[Tensor] = []
        sizes: list[float] = []
        for shape, members in alike.items():
            found = orthogonalised(torch.cat([parts for _, parts in members])).to(members[0][0].dtype)
            theirs = found.split_with_sizes([len(parts) for _, parts in members])
            for (parameter, parts), update in zip(members, theirs, strict=True):
                rows, columns = parameter.shape
                changed.append(parameter)
                updates.append(_whole(update, parameter.shape, self._heads.get(id(parameter))))
                # As large as the update of the whole would be, whose directions are as many as its shorter side.
                sizes.append(math.sqrt(max(1.0, rows / columns) * min(rows, columns) / (len(parts) * min(shape))))
        torch._foreach_mul_(updates, sizes)
        torch._foreach_mul_(changed, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(changed, updates, alpha=-group["lr"])

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        gradients = [_gradient(parameter) for parameter in parameters]
        states = [self._state_of(parameter, "first", "second") for parameter in parameters]
        for state in states:
            state["step"] = state.get("step", torch.zeros(())) + 1
        counts = [int(state["step"]) for state in states]  # those of a frozen encoder are behind
        firsts, seconds = [state["first"] for state in states], [state["second"] for state in states]
        torch._foreach_lerp_(firsts, gradients, 1 - beta1)
        torch._foreach_mul_(seconds, beta2)
        torch._foreach_addcmul_(seconds, gradients, gradients, value=1 - beta2)
        scales = torch._foreach_div(seconds, [1 - beta2**count for count in counts])
        torch._foreach_sqrt_(scales)
        torch._foreach_add_(scales, group["eps"])
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcdiv_(parameters, firsts, scales, [-group["lr"] / (1 - beta1**count) for count in counts])

    def _state_of(self, parameter: Tensor, *names: str) -> dict[str, Any]:
        """What is remembered of a parameter; zeros of its shape at first."""
        state: dict[str, Any] = self.state[parameter]
        for name in names:
            if name not in state:
                state[name] = torch.zeros_like(parameter)
        return state


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def orthogonalised(matrices: Tensor) -> Tensor:
    """Bring the singular values of each matrix near 1 and keep its singular vectors, by Newton-Schulz iterations.

    Args:
        matrices: float [count, rows, columns].

    Returns:
        [count, rows, columns], in bfloat16 where the device has it and in float32 elsewhere; singular values of 1% of the
        greatest or more lie between about 0.77 and 1.21.
    """
    found: Tensor = matrices.to(torch.bfloat16 if has_bf16(matrices.device.type) else torch.float32)
    tall = found.size(1) > found.size(2)
    if tall:  # so that products of the shorter side are formed
        found = found.mT
    found = found / (found.norm(dim=(1, 2), keepdim=True) + 1e-7)
    gram = found @ found.mT
    # ‖X Xᵀ‖ bounds the square of the greatest singular value far more tightly than ‖X‖² does, and costs next to nothing.
    bound = gram.norm(dim=(1, 2), keepdim=True) + 1e-7
    found, gram = found / bound.sqrt(), gram / bound
    for number, (a, b, c) in enumerate(_QUINTICS):
        if number:
            gram = found @ found.mT
        found = torch.baddbmm(found, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.mT if tall else found


@dataclass(frozen=True, slots=True)
class _Heads:
    """How a projection is divided into attention heads."""

    count: int
    into: bool
    """Whether it leads into the heads, which then are its rows; otherwise out of them, and they are its columns."""


def _by_head(model: nn.Module) -> dict[int, _Heads]:
    """Projections of attention layers, by the identity of their weights."""
    found: dict[int, _Heads] = {}
    for module in model.modules():
        count: int | None = getattr(module, "n_heads", None) or getattr(module, "num_heads", None)
        for name, into in _PROJECTIONS.items():
            layer = getattr(module, name, None)
            if count is not None and isinstance(layer, nn.Linear):
                found[id(layer.weight)] = _Heads(count, into)
    return found


def _parts(matrix: Tensor, heads: _Heads | None) -> Tensor:
    """A matrix [rows, columns] as one [1, rows, columns], or as those of its heads, [head, rows, columns]."""
    if heads is None:
        return matrix[None]
    if heads.into:
        return matrix.view(heads.count, -1, matrix.size(1))
    return matrix.view(matrix.size(0), heads.count, -1).transpose(0, 1)


def _whole(parts: Tensor, shape: torch.Size, heads: _Heads | None) -> Tensor:
    """What ``_parts`` took apart."""
    return (parts if heads is None or heads.into else parts.transpose(0, 1)).reshape(shape)


def _by_role(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    roles: dict[str, list[nn.Parameter]] = {"matrix": [], "embedding": [], "position": [], "other": []}
    tables = {id(module.weight): name for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if "relative_attention_bias" in name:
            role = "position"
        elif id(parameter) in tables or name.startswith("lm_head"):
            role = "embedding"
        else:
            role = "matrix" if parameter.ndim == 2 else "other"
        roles[role].append(parameter)
    return roles
