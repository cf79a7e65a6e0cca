"""Attention within a frame and over time, in five arrangements, and the transformer block around it.

Tokens are (B T, N, C), the frames of a clip following each other; N counts the class token, which comes first.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit.errors import UserError, in_range, one_of
from posekit.nn.recompute import recompute

MODES = ("parallel", "series", "coupling", "vanilla", "temporal")
TIMED_MODES = ("parallel", "series", "coupling")
"""Modes that add a temporal position embedding."""

NORM_EPS = 1e-6


class SpaceTimeAttention(nn.Module):
    """Multi-head attention in one of five arrangements of its spatial and its temporal form.

    The spatial form lets the tokens of a frame attend to each other, the temporal form a token to its namesakes in the
    clip's other frames. Both use one projection to queries, keys and values.

    - ``parallel`` (the paper's): both on the same input; their sum is weighted per frame and channel by a softmax over
      the two, computed from the tokens' means ("attentive addition").
    - ``series``: temporal on the result of spatial, through the same projection.
    - ``coupling``: every token of the clip attends to every other.
    - ``vanilla``: spatial only.
    - ``temporal``: temporal, on the mean of the frame's tokens.

    Args:
        width: Channels C.
        heads: Heads; C / heads channels each.
        mode: One of :data:`MODES`.

    Raises:
        UserError: Unknown mode, or heads that do not divide the width.
    """

    def __init__(self, width: int, heads: int, mode: str = "parallel") -> None:
        super().__init__()
        one_of("st_mode", mode, MODES)
        if width % in_range("MAED", "num_heads", heads, "[1, inf)", whole=True):
            raise UserError(f"num_heads must divide the embedding width {width}, not be {heads}")
        self.heads = heads
        self.mode = mode
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        if mode == "parallel":
            self.ts_attn = nn.Linear(2 * width, 2 * width)

    def forward(self, x: Tensor, frames: int, valid: Tensor | None = None) -> Tensor:
        """Attends.

        Args:
            x: (B T, N, C) normed tokens.
            frames: Frames T of a clip.
            valid: (B, T) bool, False where a frame is padding that nothing may attend to; None: all count.

        Returns:
            (B T, N, C); (B T, 1, C) in mode ``temporal``.
        """
        if self.mode == "temporal":
            x = x.mean(1, keepdim=True)
        return self.finish(*self.attend(self.project(x), frames, valid))

    def project(self, x: Tensor) -> Tensor:
        """Returns queries, keys and values (3, B T, N, C) of tokens (B T, N, C)."""
        # One batched product: each part lies in one piece, so both forms of attention are views of it.
        rows = x.reshape(1, -1, x.shape[-1]).expand(3, -1, -1)
        weight = self.qkv.weight.view(3, x.shape[-1], x.shape[-1])
        return torch.baddbmm(self.qkv.bias.view(3, 1, -1), rows, weight.mT).view(3, *x.shape)

    def attend(self, qkv: Tensor, frames: int, valid: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Runs the arrangement's attention on (3, B T, N, C): its result, and in mode ``parallel`` the second one."""
        q, k, v = qkv.unbind(0)
        if self.mode == "vanilla":
            return self.spatial(q, k, v), None
        if self.mode == "coupling":
            return self.coupled(q, k, v, frames, valid), None
        if self.mode == "temporal":
            return self.temporal(q, k, v, frames, valid), None
        if self.mode == "series":
            q, k, v = self.project(self.spatial(q, k, v)).unbind(0)
            return self.temporal(q, k, v, frames, valid), None
        return self.spatial(q, k, v), self.temporal(q, k, v, frames, valid)

    def finish(self, first: Tensor, second: Tensor | None, count: int | None = None) -> Tensor:
        """Adds two results attentively, where there are two, and projects the first ``count`` tokens (None: all)."""
        if second is None:
            return cast(Tensor, self.proj(first[:, :count]))
        share = self.temporal_share(first, second)
        return recompute(self._blend, first[:, :count], second[:, :count], share)

    def temporal_share(self, spatial: Tensor, temporal: Tensor) -> Tensor:
        """Returns the weight (B T, 1, C) of the temporal result; the spatial one weighs the rest up to 1."""
        means = torch.cat([spatial.mean(1, keepdim=True), temporal.mean(1, keepdim=True)], -1)
        logits = self.ts_attn(means).unflatten(-1, (-1, 2))
        return torch.sigmoid(logits[..., 1] - logits[..., 0])

    def _blend(self, spatial: Tensor, temporal: Tensor, share: Tensor) -> Tensor:
        return cast(Tensor, self.proj(torch.lerp(spatial, temporal, share)))

    def spatial(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention over the N tokens of each frame: (B T, N, C) thrice -> (B T, N, C)."""
        q, k, v = self._heads(q), self._heads(k), self._heads(v)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def temporal(self, q: Tensor, k: Tensor, v: Tensor, frames: int, valid: Tensor | None = None) -> Tensor:
        """Attention of each token over the T frames of its clip: (B T, N, C) thrice -> (B T, N, C)."""
        rows, tokens, width = q.shape
        # A token's head counts as a head of its own: (B, N heads, T, D).
        shape = (-1, frames, tokens * self.heads, width // self.heads)
        q, k, v = (part.view(shape).transpose(1, 2) for part in (q, k, v))
        mask = None if valid is None else valid[:, None, None, :].expand(-1, 1, frames, -1)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return attended.transpose(1, 2).reshape(rows, tokens, width)

    def coupled(self, q: Tensor, k: Tensor, v: Tensor, frames: int, valid: Tensor | None = None) -> Tensor:
        """Attention of every token to all T N tokens of its clip: (B T, N, C) thrice -> (B T, N, C)."""
        rows, tokens, width = q.shape
        count = frames * tokens
        q, k, v = (self._heads(part.view(-1, count, width)) for part in (q, k, v))
        mask = None
        if valid is not None:
            mask = valid.repeat_interleave(tokens, 1)[:, None, None, :].expand(-1, 1, count, -1)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return attended.transpose(1, 2).reshape(rows, tokens, width)

    def _heads(self, x: Tensor) -> Tensor:
        """Views (B, L, C) as (B, heads, L, D)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Mlp(nn.Module):
    """Two layers with a GELU between.

    Args:
        width: Channels in and out.
        hidden: Channels between.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., C) to (..., C)."""
        return self.narrow(self.fc1(x))

    def narrow(self, hidden: Tensor) -> Tensor:
        """Rectifies and applies the second layer."""
        return cast(Tensor, self.fc2(F.gelu(hidden)))


class Block(nn.Module):
    """Pre-normed transformer block: ``x += Attn(LN(x)); x += MLP(LN(x))``.

    In training the norms, the GELU and the attentive addition are computed again in the backward pass.

    Args:
        width: Channels C.
        heads: Heads.
        mode: Arrangement of attention; see :class:`SpaceTimeAttention`.
        mlp_ratio: Hidden channels of the MLP, in widths.
    """

    def __init__(self, width: int, heads: int, mode: str = "parallel", mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = SpaceTimeAttention(width, heads, mode)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, x: Tensor, frames: int, valid: Tensor | None = None, count: int | None = None) -> Tensor:
        """Maps tokens.

        Args:
            x: (B T, N, C).
            frames: Frames T of a clip.
            valid: (B, T) bool, False on padding; None: all count.
            count: Only the first tokens of the result are wanted; None: all.

        Returns:
            (B T, N or count, C).
        """
        attended = self.attn.attend(recompute(self._project, x), frames, valid)
        x = x[:, :count] + self.attn.finish(*attended, count)
        return x + recompute(self.mlp.narrow, recompute(self._widen, x))

    def _project(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        return self.attn.project(normed.mean(1, keepdim=True) if self.attn.mode == "temporal" else normed)

    def _widen(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.mlp.fc1(self.norm2(x)))
