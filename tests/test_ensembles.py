import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bdpo_jax import ensembles, networks


@pytest.fixture(scope="module")
def ensemble():
    network = networks.q_network((8, 8), layer_norm=True)
    init = jax.jit(lambda key: ensembles.init(network, key, 3, jnp.zeros((1, 3)), jnp.zeros((1, 2))))
    return network, init(jax.random.key(0))


def test_members_start_apart(ensemble):
    _, params = ensemble
    kernel = params["params"]["input"]["kernel"]
    assert kernel.shape == (3, 5, 8)
    assert all(np.abs(kernel[i] - kernel[j]).max() > 0.1 for i, j in ((0, 1), (0, 2), (1, 2)))


def test_an_ensemble_is_its_members_in_turn_or_at_once(ensemble, monkeypatch):
    network, params = ensemble
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(4, 1, 3)).astype(np.float32)
    actions = rng.normal(size=(4, 6, 2)).astype(np.float32)

    def loss(inputs):
        values = ensembles.apply_frozen(network, *inputs)
        return jnp.square(values).sum(), values

    apply = jax.jit(network.apply)
    alone = [apply(jax.tree.map(lambda x, i=i: x[i], params), observations, actions)[..., 0] for i in range(3)]
    results = {}
    for work in (1, 10**9):
        monkeypatch.setattr(ensembles, "TURNS_FROM", work)
        inputs = params, observations, actions
        if jax.default_backend() == "cpu":
            assert ("scan" in str(jax.make_jaxpr(lambda inputs: loss(inputs))(inputs))) == (work == 1)
        # A new function object, so that nothing is remembered from the other branch.
        compiled = jax.jit(jax.value_and_grad(lambda inputs: loss(inputs), has_aux=True))
        (_, values), (of_params, of_observations, results[work]) = compiled(inputs)
        assert values.shape == (3, 4, 6)
        np.testing.assert_allclose(values, np.stack(alone), rtol=1e-4, atol=1e-5)
        assert not any(np.any(leaf) for leaf in jax.tree.leaves((of_params, of_observations))), "they are frozen"
    assert np.abs(results[1]).min() > 0
    np.testing.assert_allclose(results[1], results[10**9], rtol=1e-4, atol=1e-4 * np.abs(results[1]).max())


def test_the_slopes_with_the_input_n(monkeypatch):
    """As V is used for the actor: one state for several actions, n for each state."""
    network = networks.v_network((8, 8), 3)
    rng = np.random.default_rng(1)
    observations, actions = (rng.normal(size=shape).astype(np.float32) for shape in ((4, 1, 3), (4, 6, 2)))
    n = np.array([[1], [2], [3], [2]])
    params = ensembles.init(network, jax.random.key(0), 2, observations, actions, n)

    def loss(actions):
        return (ensembles.apply_frozen(network, params, observations, actions, n) ** 2).mean(axis=0).sum()

    found = {}
    for work in (1, 10**9):
        monkeypatch.setattr(ensembles, "TURNS_FROM", work)
        found[work] = jax.jit(jax.grad(lambda a: loss(a)))(actions)
    np.testing.assert_allclose(found[1], found[10**9], rtol=1e-4, atol=1e-4 * np.abs(found[1]).max())
