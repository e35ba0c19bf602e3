"""What one clip's tubes answer to sentences: their scores, and the chosen tubes' masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aamn.models.encoded import EncodedClips, EncodedSentences, ModuleScores
from aamn.models.objective import MaskLogits
from aamn.ops.masks import paste_binary_masks
from aamn.structures import Clip, MaskTrack, Query, TubeScores


def tube_scores(
    clips: EncodedClips,
    sentences: EncodedSentences,
    scores: dict[str, Tensor],
    queries: Sequence[Query],
) -> list[TubeScores]:
    """What the tubes of the one clip in `clips` get from each sentence, on the CPU; scores are
    (Q, 1, K) by module name."""
    own = {name: value[:, 0].cpu() for name, value in scores.items()}
    found = ModuleScores.of(own, clips.tubes.valid[0].cpu())
    first, last = (attention.cpu() for attention in sentences.ends())
    context = next((side.context for side in clips.sides.values() if side.context), None)
    return [
        TubeScores(
            found.total[i],
            found.actor[i],
            found.action[i],
            first[i, : len(query.tokens)],
            last[i, : len(query.tokens)],
            context_attention=None if context is None else context.attention[0].cpu(),
            context_members=None if context is None else context.members[0].cpu(),
        )
        for i, query in enumerate(queries)
    ]


def mask_tracks(
    clip: Clip,
    clips: EncodedClips,
    mask_logits: MaskLogits,
    queries: Sequence[Query],
    found: Sequence[TubeScores],
    chosen: Sequence[int],
) -> list[MaskTrack]:
    """One track a sentence: the masks of the tube `chosen` for it in all frames of the one clip in
    `clips`; a tube that several sentences mean is masked once, and all tubes in one batch."""
    tubes = sorted(set(chosen))
    boxes = clips.tubes.boxes[0, tubes]  # (n, T, 4)
    n, t, _ = boxes.shape
    frames = torch.arange(t, device=boxes.device).repeat(n)
    probabilities = mask_logits(frames, boxes.reshape(n * t, 4)).float().sigmoid()
    size = clip.geometry.original_size
    masks = paste_binary_masks(probabilities, boxes.reshape(n * t, 4), size)
    masks = masks.view(n, t, *size).cpu()
    return [
        MaskTrack(
            video_id=clip.video_id,
            text=query.text,
            frame_indices=clip.frame_indices,
            boxes=boxes[tubes.index(tube)].cpu(),
            masks=masks[tubes.index(tube)],
            score=float(scores.total[tube]),
            scores=scores,
            tube=tube,
        )
        for query, scores, tube in zip(queries, found, chosen, strict=True)
    ]
