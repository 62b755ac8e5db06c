"""Networks: noise predictors `eps(s, a^n, n)`, members of the ensembles `Q(s, a)` and `V(s, a^n, n)`, plain MLPs."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

TIME_WIDTH = 64  # width of the sinusoidal embedding and of what the time network returns
_FREQUENCIES = np.exp(-np.log(10_000.0) * np.arange(TIME_WIDTH // 2) / (TIME_WIDTH // 2 - 1))  # radians per step


def kernel_init(key: jax.Array, shape: tuple[int, int], dtype=jnp.float32) -> jax.Array:
    """Returns sqrt(2) times a random matrix with orthonormal rows or columns, uniform over all such.

    Gram-Schmidt, each vector projected twice to stay orthogonal in float32. The library's initializer factorises
    through LAPACK; on CPUs with few threads several such calls at once can wait for each other for ever.
    """
    long, short = max(shape), min(shape)
    vectors = jax.random.normal(key, (short, long), dtype)

    def orthonormalise(i, basis):
        vector = vectors[i]
        for _ in range(2):
            vector -= (basis @ vector) @ basis
        return basis.at[i].set(vector / jnp.linalg.norm(vector))

    basis = jax.lax.fori_loop(0, short, orthonormalise, jnp.zeros_like(vectors))
    return math.sqrt(2) * (basis if shape[0] == short else basis.T)


def _uniform(limit: float) -> Callable[..., jax.Array]:
    """Returns an initializer, uniform between minus `limit` and `limit`."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -limit, limit)


def mish(x: jax.Array) -> jax.Array:
    """Returns `x tanh(softplus(x))`.

    Written with a single exponential: `tanh(log(1 + u)) = m / (m + 2)` with `u = e^x`, `m = u (u + 2)`. Beyond
    x = 20 that ratio is 1 in float32, so the exponent is capped there and cannot overflow.
    """
    u = jnp.exp(jnp.minimum(x, 20.0))
    m = u * (u + 2.0)
    return x * (m / (m + 2.0))


def sinusoidal_table(steps: int) -> np.ndarray:
    """Returns the embeddings `[steps + 1, TIME_WIDTH]` of n = 0..steps: cosines, then sines."""
    angles = np.arange(steps + 1)[:, None] * _FREQUENCIES
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32)


class TimeNetwork(nn.Module):
    """The features `[steps + 1, TIME_WIDTH]` of every diffusion step; n takes few values, so callers gather rows."""

    steps: int
    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self) -> jax.Array:
        x = jnp.asarray(sinusoidal_table(self.steps))
        for name, width in (("hidden", self.width), ("output", TIME_WIDTH)):
            x = mish(nn.Dense(width, kernel_init=kernel_init, dtype=self.dtype, name=name)(x))
        return x


def with_waves(actions: jax.Array, frequencies: Sequence[float]) -> jax.Array:
    """Returns the actions `[..., A]` and, at each of F angular frequencies, the sines and cosines of their coordinates.

    An MLP of the plain coordinates is slow to learn what changes within a small part of their range; Fourier features
    mend that in few dimensions (Tancik et al., 2020).

    Returns:
      `[..., A + 2 F A]`, the actions themselves where there is no frequency.
    """
    if not frequencies:
        return actions
    angles = jnp.concatenate([frequency * actions for frequency in frequencies], axis=-1)
    return jnp.concatenate([actions, jnp.sin(angles), jnp.cos(angles)], axis=-1)


class InputLayer(nn.Module):
    """A dense layer on the concatenation of (observations, actions, time features of n), one kernel.

    Its product is taken per part: the observations' part has no axis for action samples and the time part is
    computed once for each value of n, so neither is repeated over the rows they are broadcast to.
    """

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, observations: jax.Array, actions: jax.Array, times: jax.Array | None, n: jax.Array | int | None
    ) -> jax.Array:
        sizes = [observations.shape[-1], actions.shape[-1]] + ([] if times is None else [times.shape[-1]])
        kernel = self.param("kernel", kernel_init, (sum(sizes), self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,), jnp.float32)
        observations, actions, kernel, bias = (x.astype(self.dtype) for x in (observations, actions, kernel, bias))
        parts = jnp.split(kernel, np.cumsum(sizes)[:-1])
        result = observations @ parts[0] + actions @ parts[1]
        # What has no axes of its own but the width gets them here: other missing axes would be a mistake.
        single = (1,) * (result.ndim - 1) + (self.width,)
        if times is None:
            return result + bias.reshape(single)
        of_n = (times @ parts[2] + bias[None])[n]
        return result + (of_n if of_n.ndim > 1 else of_n.reshape(single))


class Network(nn.Module):
    """An MLP on `(s, a^n, n)`: per hidden layer dense, layer norm (optional), mish; then one dense output layer.

    Attributes:
      widths: of the hidden layers.
      outputs: width of the output.
      steps: N; 0 for a network without the input n.
      time_width: hidden width of the time network.
      layer_norm: whether hidden layers are normalised before their activation.
      dtype: that hidden layers are computed in; parameters, norms' sums and the output stay float32.
      frequencies: see `with_waves`.
    """

    widths: Sequence[int]
    outputs: int
    steps: int
    time_width: int = TIME_WIDTH
    layer_norm: bool = False
    dtype: Any = jnp.float32
    frequencies: Sequence[float] = ()

    @nn.compact
    def __call__(self, observations: jax.Array, actions: jax.Array, n: jax.Array | int | None = None) -> jax.Array:
        """Returns `[..., outputs]`.

        Args:
          observations: `[..., observation_dim]`, its leading axes broadcasting against those of `actions`.
          actions: `[..., action_dim]`.
          n: integer diffusion steps, broadcasting against the leading axes; None without the input n.
        """
        times = TimeNetwork(self.steps, self.time_width, self.dtype, name="time")() if self.steps else None
        actions = with_waves(actions, self.frequencies)
        x = InputLayer(self.widths[0], self.dtype, name="input")(observations, actions, times, n)
        for i, width in enumerate(self.widths):
            x = x if i == 0 else nn.Dense(width, kernel_init=kernel_init, dtype=self.dtype, name=f"hidden_{i}")(x)
            x = nn.LayerNorm(dtype=self.dtype, name=f"norm_{i}")(x) if self.layer_norm else x
            x = mish(x)
        return nn.Dense(self.outputs, kernel_init=kernel_init, name="output")(x.astype(jnp.float32))


def noise_predictor(
    widths: Sequence[int],
    action_dim: int,
    steps: int,
    layer_norm: bool,
    dtype=jnp.float32,
    frequencies: Sequence[float] = (),
) -> Network:
    """Returns the network `eps(s, a^n, n) -> [..., action_dim]`."""
    return Network(
        widths=tuple(widths),
        outputs=action_dim,
        steps=steps,
        layer_norm=layer_norm,
        dtype=dtype,
        frequencies=tuple(frequencies),
    )


def q_network(widths: Sequence[int], layer_norm: bool, dtype=jnp.float32, frequencies: Sequence[float] = ()) -> Network:
    """Returns one member `Q(s, a) -> [..., 1]`."""
    return Network(
        widths=tuple(widths), outputs=1, steps=0, layer_norm=layer_norm, dtype=dtype, frequencies=tuple(frequencies)
    )


def v_network(widths: Sequence[int], steps: int, dtype=jnp.float32) -> Network:
    """Returns one member `V(s, a^n, n) -> [..., 1]`."""
    return Network(
        widths=tuple(widths), outputs=1, steps=steps, time_width=2 * TIME_WIDTH, layer_norm=True, dtype=dtype
    )


class MLP(nn.Module):
    """A plain MLP on the concatenation of its inputs: hidden layers with an activation, one dense output layer.

    Attributes:
      widths: of the hidden layers.
      outputs: width of the output.
      activation: of the hidden layers.
      layer_norm: whether hidden layers are normalised before their activation.
      norm_last: whether, where they are normalised, that is after it.
      frequencies: of the second input, the actions; see `with_waves`.
      output_range: the output layer starts uniform between minus this and this; 0: as the others.
    """

    widths: Sequence[int]
    outputs: int
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    layer_norm: bool = False
    norm_last: bool = False
    frequencies: Sequence[float] = ()
    output_range: float = 0.0

    @nn.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        """Returns `[..., outputs]` for inputs `[..., width]` whose leading axes broadcast against each other."""
        if self.frequencies:
            inputs = (inputs[0], with_waves(inputs[1], self.frequencies), *inputs[2:])
        shape = jnp.broadcast_shapes(*(x.shape[:-1] for x in inputs))
        x = jnp.concatenate([jnp.broadcast_to(x, (*shape, x.shape[-1])) for x in inputs], axis=-1)
        for i, width in enumerate(self.widths):
            x = nn.Dense(width, kernel_init=kernel_init, name=f"hidden_{i}")(x)
            x = self.activation(x) if self.norm_last else x
            x = nn.LayerNorm(name=f"norm_{i}")(x) if self.layer_norm else x
            x = x if self.norm_last else self.activation(x)
        if self.output_range:
            small = _uniform(self.output_range)
            return nn.Dense(self.outputs, kernel_init=small, bias_init=small, name="output")(x)
        return nn.Dense(self.outputs, kernel_init=kernel_init, name="output")(x)


class FourierTimeNetwork(nn.Module):
    """The features `[steps + 1, width]` of every diffusion step: learned frequencies, then dense, swish, dense.

    The frequencies, `width / 4` of them, start as N(0, 0.2^2); of each there are a cosine and a sine.
    """

    steps: int
    width: int

    @nn.compact
    def __call__(self) -> jax.Array:
        frequencies = self.param("frequencies", nn.initializers.normal(0.2), (1, max(self.width // 4, 1)), jnp.float32)
        angles = 2 * np.pi * np.arange(self.steps + 1, dtype=np.float32)[:, None] * frequencies
        x = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
        x = nn.swish(nn.Dense(self.width, kernel_init=kernel_init, name="hidden")(x))
        return nn.Dense(self.width, kernel_init=kernel_init, name="output")(x)


class ResidualNetwork(nn.Module):
    """A residual network on `(s, a^n, n)` (IDQL's "LN-ResNet"): dense, blocks, swish, dense.

    A block adds to its input x: dropout, layer norm, dense to 4 times the width, swish, dense back.

    Attributes:
      width: of what the blocks are added to.
      blocks: how many.
      outputs: width of the output.
      steps: N.
      dropout: share of a block's inputs that are 0; none where `apply` has no `rngs={"dropout": key}`.
    """

    width: int
    blocks: int
    outputs: int
    steps: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, observations: jax.Array, actions: jax.Array, n: jax.Array | int) -> jax.Array:
        """Returns `[..., outputs]`; arguments as of `Network`."""
        times = FourierTimeNetwork(self.steps, self.width, name="time")()
        x = InputLayer(self.width, name="input")(observations, actions, times, n)
        for i in range(self.blocks):
            y = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(x)
            y = nn.LayerNorm(name=f"norm_{i}")(y)
            y = nn.swish(nn.Dense(4 * self.width, kernel_init=kernel_init, name=f"wide_{i}")(y))
            x = x + nn.Dense(self.width, kernel_init=kernel_init, name=f"narrow_{i}")(y)
        return nn.Dense(self.outputs, kernel_init=kernel_init, name="output")(nn.swish(x))


def time_features(t: jax.Array) -> jax.Array:
    """Returns the embeddings `[..., TIME_WIDTH]` of times in [0, 1]: those of `sinusoidal_table` at 1000 t."""
    t = jnp.asarray(t)
    angles = t[..., None] * jnp.asarray(1000 * _FREQUENCIES, jnp.float32).reshape((1,) * t.ndim + (-1,))
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class ConditionedBlock(nn.Module):
    """A residual block: `W x + U silu(V x + C c)` for a condition c, both with an axis of features last."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        hidden = nn.Dense(self.width, name="input")(x)
        hidden += nn.Dense(self.width, use_bias=False, name="condition")(condition)
        return nn.Dense(self.width, name="skip")(x) + nn.Dense(self.width, name="output")(nn.silu(hidden))


class UShapedMLP(nn.Module):
    """A U-Net of dense layers on `(s, a^t, t)`: blocks that narrow, and wider ones again that also read the former.

    Observations and t condition every block. Their part is computed once where many actions share them.

    After the noise predictor that the authors of QGPO and SfBC share, which differs: its blocks are
    `silu(U (silu(V x) + C silu(c))) + W x`, W being the identity where widths agree; observations and t are embedded
    apart, 32 wide, then together, 64, 128 and 128; one block more is in the middle, and none activates before the
    output.

    Attributes:
      widths: of the narrowing blocks.
      outputs: width of the output.
      frequencies: see `with_waves`.
    """

    widths: Sequence[int]
    outputs: int
    frequencies: Sequence[float] = ()

    @nn.compact
    def __call__(self, observations: jax.Array, actions: jax.Array, t: jax.Array) -> jax.Array:
        """Returns `[..., outputs]`.

        Args:
          observations: `[..., observation_dim]`, its leading axes broadcasting against those of `actions`.
          actions: `[..., action_dim]`.
          t: times in [0, 1], broadcasting against the leading axes of `observations`.
        """
        times = nn.Dense(TIME_WIDTH, name="time")(time_features(t))
        times = jnp.broadcast_to(times, (*observations.shape[:-1], TIME_WIDTH))
        condition = nn.Dense(self.widths[0], name="embedding")(jnp.concatenate([observations, times], axis=-1))
        condition = nn.silu(condition)
        x, passed = with_waves(actions, self.frequencies), []
        for i, width in enumerate(self.widths):
            x = ConditionedBlock(width, name=f"down_{i}")(x, condition)
            passed.append(x)
        for i in reversed(range(len(self.widths) - 1)):
            x = jnp.concatenate([passed[i], x], axis=-1)
            x = ConditionedBlock(self.widths[i], name=f"up_{i}")(x, condition)
        return nn.Dense(self.outputs, name="output")(nn.silu(x))


def neighbors(x: jax.Array, before: int, after: int) -> jax.Array:
    """Returns for each step of time the features of its neighbors, from `before` to `after` it, 0 beyond the ends.

    A dense layer on these is a convolution over time. Written as a product of matrices, it stays one when the
    parameters have an axis of runs; the library's convolution becomes a grouped one then, which is slow.

    Args:
      x: `[batch, H, C]`.
      before, after: how many.

    Returns:
      `[batch, H, (before + 1 + after) C]`.
    """
    padded = jnp.pad(x, ((0, 0), (before, after), (0, 0)))
    return jnp.concatenate([padded[:, i : i + x.shape[1]] for i in range(before + 1 + after)], axis=-1)


class TemporalBlock(nn.Module):
    """Two convolutions over time, each with group norm and mish, the condition added between; plus a skip `W x`."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        hidden = TemporalConvolution(self.width, name="first")(x)
        hidden += nn.Dense(self.width, name="condition")(mish(condition))[:, None]
        hidden = TemporalConvolution(self.width, name="second")(hidden)
        return hidden + (x if x.shape[-1] == self.width else nn.Dense(self.width, name="skip")(x))


class TemporalConvolution(nn.Module):
    """A convolution over time, kernel 5, then group norm (8 groups, where that divides the width) and mish."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(self.width, name="convolution")(neighbors(x, 2, 2))
        return mish(nn.GroupNorm(num_groups=math.gcd(8, self.width), name="norm")(x))


class TemporalUNet(nn.Module):
    """A U-Net over the time of a trajectory, `eps(x^n, n, y)`: the Decision Diffuser's (Ajay et al., 2023).

    At each level two blocks, then, but for the last, half as many steps of time; two blocks more; upwards, from the
    last level to the second, two blocks that also read what this level has passed on, then twice as many steps. All
    blocks read n and the condition y.

    Attributes:
      widths: channels of each level; that of the first is the width of both embeddings, too.
      outputs: width of the output.
      steps: N.
    """

    widths: Sequence[int]
    outputs: int
    steps: int

    @nn.compact
    def __call__(
        self, x: jax.Array, n: jax.Array | int, condition: jax.Array | float, known: jax.Array | float = 1.0
    ) -> jax.Array:
        """Returns `[..., H, outputs]`.

        Args:
          x: noisy trajectories, `[..., H, S]`; H is a multiple of `2^(levels - 1)`.
          n: diffusion steps, broadcasting against the leading axes.
          condition: y, likewise.
          known: 1, or 0 where the network is not told y; likewise.
        """
        shape, width = x.shape[:-2], self.widths[0]
        n, condition, known = (jnp.broadcast_to(value, shape).reshape(-1) for value in (n, condition, known))
        times = jnp.asarray(sinusoidal_table(self.steps))
        for name, size in (("time_hidden", 4 * width), ("time", width)):
            times = nn.Dense(size, name=name)(times if name == "time_hidden" else mish(times))
        told = nn.Dense(width, name="condition_input")(condition[:, None])
        for name, size in (("condition_hidden", 4 * width), ("condition", width)):
            told = nn.Dense(size, name=name)(mish(told))
        given = jnp.concatenate([times[n], known[:, None] * told], axis=-1)

        x, passed = x.reshape(-1, *x.shape[-2:]), []
        for i, channels in enumerate(self.widths):
            for j in range(2):
                x = TemporalBlock(channels, name=f"down_{i}_{j}")(x, given)
            passed.append(x)
            if i < len(self.widths) - 1:
                x = nn.Dense(channels, name=f"halve_{i}")(neighbors(x, 1, 1)[:, ::2])
        for j in range(2):
            x = TemporalBlock(self.widths[-1], name=f"middle_{j}")(x, given)
        for i in reversed(range(1, len(self.widths))):
            x = jnp.concatenate([x, passed[i]], axis=-1)
            for j in range(2):
                x = TemporalBlock(self.widths[i - 1], name=f"up_{i}_{j}")(x, given)
            # A transposed convolution of kernel 4: each step becomes two, which also read the one before, or after.
            pair = [nn.Dense(x.shape[-1], name=f"double_{i}_{j}")(neighbors(x, 1 - j, j)) for j in range(2)]
            x = jnp.stack(pair, axis=2).reshape(len(x), -1, x.shape[-1])
        x = nn.Dense(self.outputs, name="output")(TemporalConvolution(width, name="last")(x))
        return x.reshape(*shape, *x.shape[1:])
