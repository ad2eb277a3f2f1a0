"""How each block of a frame is treated on the link: how long it lives, how often it goes, how urgent it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_BLOCKS = 16


@dataclass(frozen=True, slots=True)
class LevelPolicy:
    """The policy of one block index.

    `lifespan`: seconds after `submit` at which a block that has not left is dropped (0 < s <= 3600).
    `repeats`: further copies of each block besides the first (0 to 8).
    `priority`: the transport's priority, 1 (REAL_TIME) to 7 (BACKGROUND).
    `superseded`: whether the same block of a newer frame drops this one while none of it has left.
    `stored`: whether it is kept and sent again until acknowledged when somebody asked for it, by a transport that can.
    """

    lifespan: float
    repeats: int = 0
    priority: int = 5
    superseded: bool = True
    stored: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.lifespan <= 3600.0:
            raise ValueError(f"lifespan must be above 0 and at most 3600 s, not {self.lifespan}")
        if not 0 <= self.repeats <= 8:
            raise ValueError(f"repeats must be 0 to 8, not {self.repeats}")
        if not 1 <= self.priority <= 7:
            raise ValueError(f"priority must be 1 to 7, not {self.priority}")


def default_policies(
    blocks: int,
    semantic_blocks: int,
    *,
    repeats: int = 1,
    coarse_lifespan: float = 1.0,
    semantic_lifespan: float = 0.5,
    picture_lifespan: float = 2.0,
) -> tuple[LevelPolicy, ...]:
    """One policy for each block index, coarse first, for a model with `blocks` blocks of which `semantic_blocks` are
    semantic.

    Block 0 is never superseded (each frame's coarse answer counts until its lifespan ends) and goes out `repeats` more
    times. The semantic blocks between block 0 and the last (a detail, or the finest names) are repeated too: they ride
    in the repeated packet of block 0 and cost a few bytes each. The last and pictures are not repeated.
    Raises ValueError when `blocks` is not 1 to 16 or `semantic_blocks` not 1 to `blocks`.
    """
    if not 1 <= blocks <= MAX_BLOCKS:
        raise ValueError(f"blocks must be 1 to {MAX_BLOCKS}, not {blocks}")
    if not 1 <= semantic_blocks <= blocks:
        raise ValueError(f"semantic_blocks must be 1 to {blocks}, not {semantic_blocks}")
    policies = []
    for index in range(blocks):
        priority = min(index + 1, 7)
        if index == 0:
            policies.append(LevelPolicy(coarse_lifespan, repeats, priority, superseded=False))
        elif index < semantic_blocks - 1:
            policies.append(LevelPolicy(semantic_lifespan, repeats, priority))
        elif index < semantic_blocks:
            policies.append(LevelPolicy(semantic_lifespan, 0, priority))
        else:
            policies.append(LevelPolicy(picture_lifespan, 0, max(priority, 5), stored=True))
    return tuple(policies)


def check_policies(policies: Sequence[LevelPolicy]) -> tuple[LevelPolicy, ...]:
    """`policies` as a tuple; ValueError when there is none or more than 16."""
    if not 1 <= len(policies) <= MAX_BLOCKS:
        raise ValueError(f"policies must be 1 to {MAX_BLOCKS} entries, not {len(policies)}")
    return tuple(policies)
