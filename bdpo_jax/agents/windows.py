"""Windows of a dataset's following rows, their states by ranks: what a planner of trajectories learns from."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from bdpo_jax.agents.critics import followed
from bdpo_jax.errors import UserError
from bdpo_jax.types import Array

QUANTILES = 1_001  # of each component of the observations, between which ranks are interpolated


def ranked(quantiles: jax.Array, observations: Array) -> jax.Array:
    """Returns the rank in the data of each component of observations, from -1 (the least) to 1, `[..., S]`.

    Args:
      quantiles: of the data, `[QUANTILES, S]`, ascending.
      observations: `[..., S]`; what lies outside the data's range has the rank of its end.
    """
    of_each = jax.vmap(jnp.interp, in_axes=(-1, -1, None), out_axes=-1)
    return of_each(observations, quantiles, jnp.linspace(-1, 1, len(quantiles)))


def rows_left(dataset: Any) -> jax.Array:
    """Returns how many rows of its episode follow each row, `[size]`, integers."""
    rows = jnp.arange(dataset.size)
    return jax.lax.cummin(jnp.where(followed(dataset), dataset.size, rows), reverse=True) - rows


def check_data_of(horizon: int):
    """Returns the `Phase.check_data` of windows of H states."""

    def check_data(dataset: Any) -> None:
        if dataset.terminals.any():  # windows that a terminal ends are whole
            return
        longest = int(rows_left(dataset).max()) + 2  # with its own state and the one after the last row
        if longest < horizon:
            raise UserError(
                f"The algorithm plans {horizon} states, but the longest episode of the data has {longest} and none "
                "ends in a terminal, so that there is nothing to learn from: give longer episodes, rows in order, or "
                f"a config.horizon of at most {longest}."
            )

    return check_data


@functools.cache  # phases are equal where their functions are
def windows_of(horizon: int):
    """Returns the `Phase.gather` of windows of H states."""

    def gather(dataset: Any, prepared: Mapping[str, Array], rows: Array) -> dict[str, jax.Array]:
        """Returns `windows [batch, H, S]`, `whole` (0 where one was cut) and `returns`, both `[batch]`, `quantiles`."""
        ahead, left = jnp.arange(horizon)[None], jnp.asarray(prepared["left"])[rows].astype(int)[:, None]
        last = rows + left[:, 0]
        terminal = dataset.terminals[last][:, None] > 0
        windows = jnp.asarray(prepared["observations"])[rows[:, None] + jnp.minimum(ahead, left)]
        final = jnp.asarray(prepared["next_observations"])[last][:, None]
        windows = jnp.where((ahead == left + 1)[..., None], final, windows)
        beyond = ahead > left + jnp.where(terminal, 0, 1)
        quantiles = jnp.asarray(prepared["quantiles"])
        return {
            "windows": jnp.where(beyond[..., None], prepared["padding"][None, None], windows),
            "whole": (terminal | ~beyond[:, -1:])[:, 0].astype(jnp.float32),
            "returns": jnp.asarray(prepared["returns"])[rows],
            "quantiles": jnp.broadcast_to(quantiles, (len(rows), *quantiles.shape)),
        }

    return gather
