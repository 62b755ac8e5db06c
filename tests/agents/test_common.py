import jax
import jax.numpy as jnp
import numpy as np

from bdpo_jax.agents import common


def test_cosine_decay():
    counts = jnp.array([0, 25, 50, 100, 1000])
    quarter = 0.5 * (1 + np.sqrt(0.5))
    np.testing.assert_allclose(common.cosine_decay(2.0, counts, 100.0), np.array([2, 2 * quarter, 1, 0, 0]), atol=1e-6)
    np.testing.assert_array_equal(common.cosine_decay(2.0, counts, jnp.inf), [2] * 5)


def numpy_adam(gradients, params, rates, clip_norm):
    """Adam (0.9, 0.999, 1e-8) behind a global-norm clip, as in its paper."""
    first = second = np.zeros_like(params)
    history = []
    for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        gradient = gradient * min(1.0, clip_norm / np.linalg.norm(gradient))
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        params = params - rate * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        history.append(params)
    return np.array(history)


def test_gradient_steps_are_adam_s_with_clip_decay_and_average():
    start = np.array([1.0, -2.0, 0.5])
    gradients = np.array([[3.0, -4.0, 0.0], [0.1, 0.2, -0.2], [0.0, 0.3, 0.6]])  # norms 5, 0.3, 0.67
    model = common.create({"a": jnp.float32(start[:2]), "b": jnp.float32(start[2:])}, clip_norm=0.5)
    step = jax.jit(lambda m, g: common.apply_gradients(m, g, 0.5, 0.1, 0.25, decay_steps=4.0))
    rates = [0.1 * 0.5 * (1 + np.cos(np.pi * i / 4)) for i in range(3)]
    history = numpy_adam(gradients, start, rates, clip_norm=0.5)
    average = start
    for gradient, expected in zip(gradients, history, strict=True):
        model = step(model, {"a": jnp.float32(gradient[:2]), "b": jnp.float32(gradient[2:])})
        average = 0.75 * average + 0.25 * expected  # after the step, of the new parameters
        np.testing.assert_allclose(np.concatenate([model.params["a"], model.params["b"]]), expected, rtol=1e-5)
        np.testing.assert_allclose(np.concatenate([model.ema["a"], model.ema["b"]]), average, rtol=1e-5)


def test_a_model_s_average_is_a_copy_in_memory_of_its_own():
    params = {"a": jnp.ones(3)}
    model = common.create(params, 1.0)
    assert model.ema["a"].unsafe_buffer_pointer() != model.params["a"].unsafe_buffer_pointer()
    np.testing.assert_array_equal(model.ema["a"], model.params["a"])


def test_a_gradient_step_can_be_differentiated_where_a_gradient_is_zero():
    # As for the kernel of an observation that is always 0, in the tasks without a state.
    model = common.create({"a": jnp.ones(2)}, 10.0)

    def moved(x):
        new = common.apply_gradients(model, {"a": x * jnp.array([1.0, 0.0])}, 10.0, 0.1, 0.1)
        return jnp.square(new.params["a"]).sum()

    assert np.isfinite(jax.jit(jax.grad(moved))(0.5))


def test_a_model_without_an_average_acts_by_its_parameters():
    model = common.create({"a": jnp.ones(3)}, 1.0, average=False)
    assert model.ema is None
    moved = common.apply_gradients(model, {"a": jnp.full(3, 0.5)}, 1.0, 0.1, ema_rate=0.3)
    np.testing.assert_allclose(moved.acting["a"], 0.9, rtol=1e-6)  # a first step of Adam is as long as the rate
    assert moved.ema is None


def test_an_online_model_acts_by_its_parameters_and_keeps_its_average():
    model = common.create({"a": jnp.ones(3)}, 1.0, online=True)
    moved = common.apply_gradients(model, {"a": jnp.full(3, 0.5)}, 1.0, 0.1, ema_rate=0.3)
    np.testing.assert_allclose(moved.acting["a"], 0.9, rtol=1e-6)
    np.testing.assert_allclose(moved.ema["a"], 0.97, rtol=1e-6)
    still = common.apply_gradients(moved, {"a": jnp.full(3, 0.5)}, 1.0, 0.1, ema_rate=0.0)
    np.testing.assert_array_equal(still.ema["a"], moved.ema["a"])
    kept = common.only_acting(still)
    assert kept.ema is None and kept.opt_state is None
    np.testing.assert_array_equal(kept.acting["a"], still.params["a"])


def test_only_what_policies_act_by_is_kept():
    averaged, plain = (
        common.create({"a": jnp.full(2, value)}, 1.0, average) for value, average in ((1, True), (2, False))
    )
    averaged = averaged.replace(params={"a": jnp.zeros(2)})
    kept = common.only_acting({"averaged": averaged, "plain": plain, "step": jnp.int32(7)})
    assert len(jax.tree.leaves(kept)) == 3 and kept["step"] == 7
    np.testing.assert_array_equal(kept["averaged"].acting["a"], [1, 1])
    np.testing.assert_array_equal(kept["plain"].acting["a"], [2, 2])
