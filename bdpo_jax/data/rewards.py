"""The scale of the rewards: how it follows from the returns of the data, and what makes it meaningless."""

import warnings
from typing import NamedTuple

import numpy as np

from bdpo_jax.data.dataset import Dataset
from bdpo_jax.errors import Notice, UserError

LARGE_FACTOR = 10.0  # a factor beyond which it is said


class Scaling(NamedTuple):
    """What rewards are multiplied by, and the episodes that say so.

    Attributes:
      factor: the number.
      episodes: how many complete ones there are.
      lowest, highest: of their undiscounted returns, before scaling; 0 where there are no episodes.
    """

    factor: float
    episodes: int
    lowest: float
    highest: float

    def __str__(self) -> str:
        found = f"{self.episodes} complete episodes, returns {self.lowest:.6g} to {self.highest:.6g}"
        return f"{found if self.episodes else 'episodes unknown'}; rewards times {self.factor:.6g}"


def find_scaling(
    scaling: str | float, auto: float | None, returns: np.ndarray, lengths: np.ndarray, rewards: np.ndarray, where: str
) -> Scaling:
    """Returns the number that rewards are multiplied by.

    Args:
      scaling: "none", a number, or "auto".
      auto: what "auto" means; None: `1000 / (max - min)` of the returns.
      returns, lengths: `[episodes]`, undiscounted, and steps.
      rewards: `[rows]`, not scaled.
      where: what error messages call the data.

    Raises:
      UserError: the scaling is unknown, or "auto" is undefined because all returns are equal up to rounding.
    """
    lowest, highest = (float(returns.min()), float(returns.max())) if returns.size else (0.0, 0.0)

    def found(factor: float) -> Scaling:
        return Scaling(factor, len(returns), lowest, highest)

    if scaling == "none":
        return found(1.0)
    if scaling != "auto":
        try:
            factor = float(scaling)
        except (TypeError, ValueError):
            factor = np.nan
        if not np.isfinite(factor) or factor == 0:
            raise UserError(f"reward_scaling is {scaling!r}; give 'auto', 'none' or a number but 0.")
        return found(factor)
    if auto is not None:
        return found(auto)
    # Rewards are float32: a sum of L of them is uncertain by about L rounding errors.
    rounding = float(np.finfo(np.float32).eps) * float(lengths.max()) * float(np.abs(rewards).max())
    if highest - lowest <= rounding:
        raise UserError(
            f"All {len(returns)} complete episodes of {where} have the same return up to rounding "
            f"({lowest:.6g} to {highest:.6g}), so its range cannot scale the rewards; set reward_scaling to 'none' or "
            "a number."
        )
    factor = 1000.0 / (highest - lowest)
    if factor > LARGE_FACTOR:
        warnings.warn(
            f"The returns of the {len(returns)} complete episodes of {where} differ by {highest - lowest:.6g} at most "
            f"({lowest:.6g} to {highest:.6g}): reward_scaling='auto' multiplies rewards by {factor:.6g}; set it to "
            "'none' or a number if that is not meant.",
            Notice,
            stacklevel=3,
        )
    return found(factor)


def shift(data: Dataset, amount: float) -> Dataset:
    """Returns the data with a number added to every reward.

    Raises:
      UserError: a reward is infinite in float32 then, or the differences between rewards vanish beside the number.
    """
    with np.errstate(over="ignore"):
        shifted = np.asarray(data.rewards) + np.float32(amount)
    lost = np.ptp(data.rewards) > 0 and np.ptp(shifted) == 0
    if lost or not np.isfinite(shifted).all():
        fault = "all equal" if lost else "infinite"
        raise UserError(
            f"config.reward_shift is {amount!r}, with which rewards are {fault} in float32: give a smaller one."
        )
    return data.replace(rewards=shifted)


def scale(data: Dataset, scaling: Scaling, where: str) -> Dataset:
    """Returns the data with scaled rewards.

    Raises:
      UserError: a scaled reward is infinite in float32, or all of them vanish.
    """
    with np.errstate(over="ignore", under="ignore"):
        rewards = np.asarray(data.rewards) * np.float32(scaling.factor)
    vanished = np.any(data.rewards) and not np.any(rewards)
    if vanished or not np.isfinite(rewards).all():
        raise UserError(
            f"The rewards of {where} times {scaling.factor:.6g} are {'all zero' if vanished else 'infinite'} in "
            "float32; set reward_scaling to another number."
        )
    return data.replace(rewards=rewards)
