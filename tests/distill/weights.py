"""Weights of tiny models."""

from __future__ import annotations

import torch


def loud(model: torch.nn.Module) -> torch.nn.Module:
    """Random weights of which inputs make something: at their usual size every answer is the same."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3 if parameter.std() > 0.1 else 15)
    return model
