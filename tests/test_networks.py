import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bdpo_jax import networks


def exact_mish(x):
    """`x tanh(softplus(x))` and its derivative in float64, with a softplus that neither overflows nor cancels."""
    x = np.float64(x)
    softplus = np.logaddexp(0, x)
    sigmoid = np.exp(-np.logaddexp(0, -x))
    return x * np.tanh(softplus), np.tanh(softplus) + x * sigmoid / np.cosh(np.minimum(softplus, 300)) ** 2


def test_mish_and_its_gradient():
    # Down to -80: below -87 the exponential leaves float32's normal range and mish is 0 but for 1e-37.
    x = np.concatenate([np.linspace(-80, 60, 4001), [-1e-6, 0, 1e-6, 19.9999, 20, 20.0001, 1e4, 1e30]]).astype(
        np.float32
    )
    value, gradient = jax.jit(jax.vmap(jax.value_and_grad(networks.mish)))(x)
    expected_value, expected_gradient = exact_mish(x)
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    # Its second term is x times a difference of numbers near 1, with x up to 20: a few roundings of 6e-8 times 20.
    # It is 0 near x = -1.19, so an absolute error there.
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=2e-7)


def test_mish_is_zero_far_below():
    x = jnp.array([-1e3, -1e30])
    value, gradient = jax.vmap(jax.value_and_grad(networks.mish))(x)
    np.testing.assert_array_equal(value, [0, 0])
    np.testing.assert_array_equal(gradient, [0, 0])


def test_sinusoidal_table():
    table = networks.sinusoidal_table(5)
    assert table.shape == (6, 64)
    np.testing.assert_array_equal(table[0], [1] * 32 + [0] * 32)
    frequency = np.exp(-np.log(10_000) * 7 / 31)
    np.testing.assert_allclose(table[3, [7, 32 + 7]], [np.cos(3 * frequency), np.sin(3 * frequency)], rtol=1e-6)
    # The slowest frequency is 1 / 10,000.
    np.testing.assert_allclose(table[5, 63], np.sin(5e-4), rtol=1e-6)


@pytest.mark.parametrize("with_time", [True, False])
def test_the_input_layer_is_a_dense_layer_on_the_concatenation(with_time):
    rng = np.random.default_rng(0)
    observations, actions = rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
    times = rng.normal(size=(5, 6)) if with_time else None
    n = np.array([1, 4, 2, 2, 3, 1, 0]) if with_time else None
    layer = networks.InputLayer(8)
    key = jax.random.key(0)
    shapes = jax.eval_shape(layer.init, key, observations, actions, times, n)
    params = jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), shapes)
    concatenation = np.concatenate([observations, actions] + ([times[n]] if with_time else []), axis=-1)
    dense = nn.Dense(8)
    assert jax.tree.map(jnp.shape, jax.eval_shape(dense.init, key, concatenation)) == jax.tree.map(jnp.shape, shapes)
    result = jax.jit(layer.apply)(params, observations, actions, times, n)
    kernel, bias = params["params"]["kernel"], params["params"]["bias"]
    np.testing.assert_allclose(result, concatenation @ kernel + bias, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 8), (8, 3), (16, 16)])
def test_kernels_start_orthogonal_and_uniform(shape):
    kernels = np.float64(
        jax.jit(jax.vmap(lambda key: networks.kernel_init(key, shape)))(jax.random.split(jax.random.key(0), 500))
    )
    grams = kernels @ kernels.transpose(0, 2, 1) if shape[0] <= shape[1] else kernels.transpose(0, 2, 1) @ kernels
    np.testing.assert_allclose(grams, np.broadcast_to(2 * np.eye(min(shape)), grams.shape), atol=1e-5)
    # Every entry has mean 0 and, by symmetry, mean square 2 / (longer side). A deviation of at most that root over 500
    # draws; 5 standard errors, for so many entries.
    square = 2 / max(shape)
    np.testing.assert_allclose(kernels.mean(axis=0), 0, atol=5 * np.sqrt(square / 500))
    np.testing.assert_allclose((kernels**2).mean(axis=0), square, rtol=5 * np.sqrt(2 / 500))


def plain_network(params, observations, actions, n, layer_norm, hidden):
    """The network on explicit rows: dense, layer norm, mish for each hidden layer; in float64 by hand."""
    params = jax.tree.map(np.float64, params["params"])

    def mish(x):
        return exact_mish(x)[0]

    def dense(x, p):
        return x @ p["kernel"] + p["bias"]

    inputs = [observations, actions]
    if n is not None:
        time = params["time"]
        embedding = networks.sinusoidal_table(10)[n]
        inputs.append(mish(dense(mish(dense(embedding, time["hidden"])), time["output"])))
    x = np.concatenate(inputs, axis=-1)
    for i in range(hidden):
        x = dense(x, params["input" if i == 0 else f"hidden_{i}"])
        if layer_norm:
            p = params[f"norm_{i}"]
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]
        x = mish(x)
    return dense(x, params["output"])


@pytest.mark.parametrize(
    ("network", "with_n", "layer_norm", "time_widths"),
    [
        (networks.noise_predictor((8, 10, 12), 2, steps=4, layer_norm=False), True, False, (64, 64)),
        (networks.noise_predictor((8, 10, 12), 2, steps=4, layer_norm=True), True, True, (64, 64)),
        (networks.v_network((8, 10, 12), steps=4), True, True, (128, 64)),
        (networks.q_network((8, 10, 12), layer_norm=False), False, False, None),
        (networks.q_network((8, 10, 12), layer_norm=True), False, True, None),
    ],
)
def test_a_network_is_its_layers_by_hand(network, with_n, layer_norm, time_widths):
    rng = np.random.default_rng(0)
    observations, actions = rng.normal(size=(6, 3)).astype(np.float32), rng.normal(size=(6, 2)).astype(np.float32)
    n = np.array([1, 2, 3, 4, 4, 0]) if with_n else None
    shapes = jax.eval_shape(network.init, jax.random.key(0), observations, actions, n)
    params = jax.tree.map(lambda p: rng.normal(size=p.shape, scale=0.4).astype(np.float32), shapes)
    result = jax.jit(network.apply)(params, observations, actions, n)
    assert result.shape == (6, network.outputs)
    expected = plain_network(params, observations, actions, n, layer_norm, hidden=3)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
    if time_widths:
        time = params["params"]["time"]
        assert tuple(time[name]["kernel"].shape[1] for name in ("hidden", "output")) == time_widths


def test_waves_are_sines_and_cosines_of_each_coordinate():
    actions = np.array([[0.5, -2.0]], np.float32)
    a, b = actions[0]
    expected = [a, b, *np.sin([a, b, 3 * a, 3 * b]), *np.cos([a, b, 3 * a, 3 * b])]
    np.testing.assert_allclose(networks.with_waves(actions, (1, 3))[0], expected, rtol=1e-5)
    assert networks.with_waves(actions, ()) is actions


@pytest.mark.parametrize(
    "network, layer, before, after",  # and what other inputs the layer has, before the action and after it
    [
        (networks.noise_predictor((8,), 2, 4, False, frequencies=(1.0, 3.0)), ("input", "kernel"), 3, 64),
        (networks.UShapedMLP((8, 4), 2, (1.0, 3.0)), ("down_0", "input", "kernel"), 0, 0),
        (networks.MLP((8,), 1, nn.silu, frequencies=(1.0, 3.0)), ("hidden_0", "kernel"), 3, 1),
    ],
)
def test_a_network_reads_the_waves_of_its_action(network, layer, before, after):
    """By its input layer where the action's own rows are 0: then a whole period of the slowest changes nothing."""
    observations, actions, n = np.zeros((4, 3)), np.random.default_rng(0).normal(size=(4, 2)), np.ones(4, int)
    n = n[:, None] if isinstance(network, networks.MLP) else n
    params = network.init(jax.random.key(0), observations, actions, n)["params"]
    flat = flax.traverse_util.flatten_dict(params)
    kernel = flat[layer]
    assert len(kernel) == before + 2 + 2 * 2 * 2 + after
    flat[layer] = kernel.at[before : before + 2].set(0)
    if layer[0] == "down_0":  # which the block's way past its layers reads, too
        flat["down_0", "skip", "kernel"] = flat["down_0", "skip", "kernel"].at[:2].set(0)
    params = {"params": flax.traverse_util.unflatten_dict(flat)}
    found = network.apply(params, observations, actions, n)
    np.testing.assert_allclose(network.apply(params, observations, actions + 2 * np.pi, n), found, atol=1e-4)
    assert np.abs(network.apply(params, observations, actions + 1, n) - found).max() > 1e-3


def test_observations_broadcast_over_action_samples():
    network = networks.v_network((8, 8), steps=4)
    rng = np.random.default_rng(0)
    observations, actions = rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(5, 7, 2)).astype(np.float32)
    n = np.array([1, 2, 3, 4, 1])
    shapes = jax.eval_shape(network.init, jax.random.key(0), observations, actions[:, 0], n)
    params = jax.tree.map(lambda p: rng.normal(size=p.shape, scale=0.4).astype(np.float32), shapes)
    apply = jax.jit(network.apply)
    broadcast = apply(params, observations[:, None], actions, n[:, None])
    rows = apply(params, observations.repeat(7, axis=0), actions.reshape(35, 2), n.repeat(7))
    assert broadcast.shape == (5, 7, 1)
    np.testing.assert_allclose(broadcast.reshape(35, 1), rows, rtol=1e-4, atol=1e-5)
    # A single n for all of them.
    np.testing.assert_allclose(apply(params, observations[:, None], actions, 2)[1], broadcast[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("outputs, steps", [(1, 0), (6, 5)])
def test_bfloat16_keeps_parameters_and_outputs_in_float32(outputs, steps):
    """Its outputs differ by some roundings of 2^-9 of the hidden layers' size, which is about 1."""
    sizes = {"widths": (64, 64), "outputs": outputs, "steps": steps, "layer_norm": True}
    exact, fast = (networks.Network(**sizes, dtype=dtype) for dtype in ("float32", "bfloat16"))
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(128, width)).astype(np.float32) for width in (11, 3)]
    if steps:
        inputs.append(rng.integers(1, steps + 1, 128))
    params = fast.init(jax.random.key(0), *inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    found, expected = fast.apply(params, *inputs), exact.apply(params, *inputs)
    assert found.dtype == jnp.float32
    assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    gradient = jax.grad(lambda p: fast.apply(p, *inputs).sum())(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}


def test_the_predictor_shares_its_condition_among_actions():
    """Broadcast observations and times give what repeated ones do; another t gives something else."""
    network = networks.UShapedMLP((8, 4), 2)
    keys = jax.random.split(jax.random.key(0), 4)
    observations, actions = jax.random.normal(keys[0], (5, 1, 3)), jax.random.normal(keys[1], (5, 6, 2))
    t = jax.random.uniform(keys[2], (5, 1))
    apply = jax.jit(network.apply)
    params = jax.jit(network.init)(keys[3], observations, actions, t)
    found = apply(params, observations, actions, t)
    repeated = apply(params, jnp.repeat(observations, 6, axis=1), actions, jnp.repeat(t, 6, axis=1))
    np.testing.assert_allclose(found, repeated, rtol=1e-4, atol=1e-5)
    assert bool((jnp.abs(found - apply(params, observations, actions, 1 - t)) > 1e-4).any())
