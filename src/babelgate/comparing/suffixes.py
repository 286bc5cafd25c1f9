"""States of a reply's opening words: what CAST's behaviour vectors are made from."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..models.chat import ChatModel
from ..models.hooks import block_hooks
from ..models.template import Tokens


@torch.inference_mode()
def suffix_states(
    model: ChatModel, questions: Sequence[str], suffixes: Sequence[str], *, rows: int = 16
) -> torch.Tensor:
    """Return the mean over each suffix's tokens of every block's output, ``[N, n_layers, d]``.

    ``suffixes[i]`` follows the templated ``questions[i]`` as the beginning of its reply. Float32.
    Source: arXiv 2409.05907, section 3.
    """
    asked = model.encode(questions)
    said = [model.template.bare_tokens(text) for text in suffixes]
    tokens = Tokens(
        tuple((*a, *b) for a, b in zip(asked.ids, said)), asked.inst_offsets, asked.pad_id
    )
    n_layers, d = len(model.blocks), model.identity.d_model
    found = torch.zeros(len(questions), n_layers, d)
    order = sorted(range(len(questions)), key=lambda i: -tokens.lengths[i])
    for at in range(0, len(order), rows):
        batch = order[at : at + rows]
        ids, mask = tokens.padded(batch)
        width = ids.shape[1]
        inside = torch.zeros(mask.shape, dtype=torch.bool)
        for row, i in enumerate(batch):
            inside[row, width - len(said[i]) :] = True

        def hook(layer: int, batch: list[int] = batch, inside: torch.Tensor = inside):
            def read(hidden: torch.Tensor) -> None:
                here = inside.to(hidden.device)[..., None]
                total = torch.where(here, hidden.float(), 0.0).sum(1)
                found[batch, layer] = (total / here.sum(1)).cpu()

            return read

        device = model.device
        with block_hooks(model.blocks, {layer: hook(layer) for layer in range(n_layers)}):
            model.model(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0).to(device),
                use_cache=False,
                logits_to_keep=1,
            )
    return found
