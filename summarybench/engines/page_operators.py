"""The custom operator of continuous batching: attention of one new token in each sequence over a paged KV cache.

torch.compile does not look into it. On a GPU it runs a Triton kernel; on a CPU it runs plain torch, so that the engine can
be tested without GPU and Triton. This module imports torch, so import it only when a model is compiled.
"""

from __future__ import annotations

import torch
from torch import Tensor

ATTENTION = "attention_pages"
"""The kernel module."""


@torch.library.custom_op("summarybench::attend_pages", mutates_args=(), device_types="cpu")
def attend_pages(
    queries: Tensor, keys: Tensor, values: Tensor, table: Tensor, lengths: Tensor, scaling: float
) -> Tensor:
    """Attend to the first `lengths[s]` tokens of each sequence s: [sequences, heads, width], zeros for a length of 0.

    `queries` is [sequences, heads, width]. Keys and values are [pages, key heads, tokens of a page, width]. `table` has the
    pages of each sequence in order, [sequences, pages of the longest].
    """
    key_heads, page, width = keys.shape[1:]
    tokens = table.shape[1] * page
    # [sequences, pages, key heads, page, width] → [sequences, key heads, tokens, width]
    read = [each[table.long()].transpose(1, 2).reshape(len(table), key_heads, tokens, width) for each in (keys, values)]
    grouped = queries.view(len(queries), key_heads, -1, width).float()
    scores = grouped @ read[0].float().transpose(2, 3) * scaling
    is_there = (torch.arange(tokens) < lengths[:, None])[:, None, None]
    shares = scores.masked_fill(~is_there, -torch.inf).softmax(-1).nan_to_num()
    mixed: Tensor = shares @ read[1].float()
    return mixed.view_as(queries).to(queries.dtype)


@attend_pages.register_fake
def _(queries: Tensor, keys: Tensor, values: Tensor, table: Tensor, lengths: Tensor, scaling: float) -> Tensor:
    return queries.new_empty(queries.shape)


@attend_pages.register_kernel("cuda")
def _(queries: Tensor, keys: Tensor, values: Tensor, table: Tensor, lengths: Tensor, scaling: float) -> Tensor:
    from summarybench.engines.kernels.attention_pages import launch

    return launch(queries.contiguous(), keys, values, table, lengths, scaling)
