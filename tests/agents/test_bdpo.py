"""The public functions of training as a whole: steps and cycles, transformations, pre-training."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees, config, exact_state, make_batch, random_state, set_hyper

from bdpo_jax import settings
from bdpo_jax.agents import bdpo, deterministic, gaussian
from bdpo_jax.agents.common import FOREVER
from bdpo_jax.agents.draws import noisy_actions
from bdpo_jax.errors import UserError

INTERVAL = config().actor_update_interval
TRACES = {"update": 0, "pretrain": 0}


def counted(name):
    """The public function, counting how often it is traced."""

    def function(*arguments):
        TRACES[name] += 1
        return getattr(bdpo, name)(*arguments)

    return function


# Donated as a training loop does it, so callers pass a copy where they go on using a state.
update = jax.jit(counted("update"), donate_argnums=0)
pretrain = jax.jit(counted("pretrain"))
plain_update = jax.jit(bdpo.update)  # for `linear_state`


def copy(state):
    return jax.tree.map(jnp.copy, state)


@pytest.fixture(scope="module")
def initial():
    """A state in the middle of things: actor and behavior model differ, and so do parameters and averages."""
    state = random_state(config(value_warmup_steps=4), 3, 2)
    models = {
        name: (model := getattr(state, name)).replace(ema=jax.tree.map(lambda p: 0.9 * p, model.params))
        for name in ("actor", "behavior", "q", "v")
    }
    return state.replace(**models)


def linear_noise(params, observations, noisy, n):
    shift = jnp.broadcast_to(params["shift"][n], noisy.shape)
    return params["gain"] * noisy + observations @ params["kernel"] + shift


def linear_q(params, observations, actions):
    return (observations @ params["states"] + actions @ params["actions"])[..., None]


def linear_v(params, observations, noisy, n):
    return linear_q(params, observations, noisy) + params["offset"][n][..., None]


def linear_state(**changes):
    """The same with functions that compile in a moment."""
    rng = np.random.default_rng(1)
    noise = {"gain": (), "kernel": (3, 2), "shift": (4, 2)}
    value = {"states": (2, 3), "actions": (2, 2)}
    shapes = {"actor": noise, "behavior": noise, "q": value, "v": {**value, "offset": (2, 4)}}
    params = {
        name: {k: jnp.asarray(rng.normal(size=shape), jnp.float32) for k, shape in leaves.items()}
        for name, leaves in shapes.items()
    }
    return exact_state(config(**changes), 2, params, predict=linear_noise, q=linear_q, v=linear_v)


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def differs(left, right):
    return any(
        (np.asarray(a) != np.asarray(b)).any()
        for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    )


def assert_close(left, right, scale=1e-5):
    """To a few roundings of each array's largest entry."""

    def compare(a, b, err_msg):
        if np.issubdtype(a.dtype, np.integer):
            np.testing.assert_array_equal(a, b, err_msg=err_msg)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=scale * max(np.abs(a).max(), 1e-3), err_msg=err_msg)

    assert_trees(compare, left, right)


def test_init_starts_the_actor_and_every_average_as_copies():
    state = bdpo.init(config(), jax.random.key(0), 3, 2)
    for model in (state.actor, state.behavior, state.q, state.v):
        assert_trees(np.testing.assert_array_equal, model.params, model.ema)
    assert_trees(np.testing.assert_array_equal, state.actor.params, state.behavior.ema)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)  # or the state could not be donated
    assert all(leaf.shape[0] == config().ensemble_size for leaf in jax.tree.leaves((state.q.params, state.v.params)))


def test_hyper_takes_the_training_budget_where_no_decay_horizon_is_given():
    hyper = bdpo.init(config(actor_decay_steps=0, value_decay_steps=70, train_steps=500), jax.random.key(0), 3, 2).hyper
    assert (float(hyper.actor_decay_steps), float(hyper.value_decay_steps)) == (500, 70)
    assert all(leaf.dtype == jnp.float32 and leaf.shape == () for leaf in jax.tree.leaves(hyper))
    # -1: the actor's own budget, every second of 500 updates. A phase without updates needs a horizon all the same.
    for changes, expected in (
        ({"actor_decay_steps": -1, "train_steps": 500, "value_warmup_steps": 100}, (200, 500)),
        ({"actor_decay_steps": -1, "train_steps": 0}, (1, 1)),
    ):
        hyper = bdpo.init(config(**changes), jax.random.key(0), 3, 2).hyper
        assert (float(hyper.actor_decay_steps), float(hyper.value_decay_steps)) == expected
    for horizon, found in ((0, np.float32(FOREVER)), (7, 7), (-1, 40)):
        hyper = bdpo.init(config(behavior_decay_steps=horizon, pretrain_steps=40), jax.random.key(0), 3, 2).hyper
        assert float(hyper.behavior_decay_steps) == found


@pytest.mark.parametrize("agent", [bdpo, gaussian, deterministic])
def test_the_behavior_model_s_learning_rate_ends_at_its_horizon(agent):
    sizes = {"actor_widths": (8,), "value_widths": (8,), "behavior_lr": 0.01, "ema_rate": 1.0}
    state = agent.init(
        settings.make(agent, **sizes, pretrain_steps=2, behavior_decay_steps=-1), jax.random.key(0), 3, 2
    )
    pretrain, batch, moved = jax.jit(agent.phases(settings.make(agent))[0].update), make_batch(), []
    for _ in range(3):
        before = jax.tree.leaves(state.behavior.ema)
        state, _ = pretrain(state, batch, jax.random.key(1))
        moved.append(max(np.abs(x - y).max() for x, y in zip(jax.tree.leaves(state.behavior.ema), before, strict=True)))
    np.testing.assert_allclose(moved[0], 0.01, rtol=0.01)  # Adam's first step is as long as the learning rate
    assert 0 < moved[1] < 0.006 and moved[2] == 0


def test_a_behavior_model_that_is_trained_on_needs_a_learning_rate():
    def of(steps):
        changes = {"behavior_finetune": True, "pretrain_steps": 100, "behavior_decay_steps": steps}
        return SimpleNamespace(**config(**changes), batch_size=64)

    for steps in (-1, 5, 100):
        with pytest.raises(UserError, match=f"behavior_finetune.*behavior_decay_steps={steps} .*set one to False"):
            bdpo.check(of(steps))
    for steps in (0, 200):
        bdpo.check(of(steps))


def test_the_phases_of_a_run():
    budgets = {"pretrain_steps": 40, "train_steps": 60, "value_warmup_steps": 6}
    first, second = bdpo.phases(config(**budgets))
    assert (first.name, first.updates, first.delayed, first.score) == ("pretrain", 40, None, ("behavior",))
    assert (second.name, second.updates, second.interval, second.delayed_from) == ("train", 60, INTERVAL, 6)
    assert second.watch == ("policy",) and second.score == ("policy", "behavior", "behavior_best_of")
    # Of a bandit the samples are what matters, not the best of them.
    assert bdpo.phases(config(one_step=True, **budgets))[1].score == ("policy", "behavior")


def test_the_phase_of_training_is_that_many_updates():
    settings, key = {"value_warmup_steps": 2, "train_steps": 6}, jax.random.key(9)
    phase = bdpo.phases(config(**settings))[1]
    every, delayed = jax.jit(phase.update), jax.jit(phase.delayed)
    stepped = phased = linear_state(**settings)
    for done in range(1, phase.updates + 1):
        batch = make_batch(done)
        stepped, _ = plain_update(stepped, batch, key)
        phased, _ = every(phased, batch, key)
        if done % phase.interval == 0 and done > phase.delayed_from:
            phased, _ = delayed(phased, batch, key)
        assert int(phased.actor.opt_state[1].count) == {4: 1, 5: 1, 6: 2}.get(done, 0)
        assert_close(stepped, phased)


def test_a_batch_too_small_to_be_stratified_is_one_sentence():
    def settings(batch_size, stratified):
        return SimpleNamespace(**config(diffusion_steps=5, stratified=stratified), batch_size=batch_size)

    bdpo.check(settings(5, stratified=True))
    bdpo.check(settings(4, stratified=False))
    with pytest.raises(UserError, match=r"batch_size is 4; .* diffusion_steps \(5\) unless stratified=False"):
        bdpo.check(settings(4, stratified=True))


def test_the_actor_moves_at_multiples_of_the_interval_after_the_warm_up(initial):
    state, key = copy(initial), jax.random.key(1)
    for step in range(1, 9):
        old = copy(state)
        state, metrics = update(state, make_batch(step), key)
        due = step in (6, 8)  # 2 and 4 belong to the warm-up
        assert int(state.step) == step
        assert differs(state.actor.params, old.actor.params) == due
        assert differs(state.actor.ema, old.actor.ema) == due
        assert int(state.actor.opt_state[1].count) - int(old.actor.opt_state[1].count) == due
        for model in ("q", "v"):
            assert differs(getattr(state, model).params, getattr(old, model).params)
            assert differs(getattr(state, model).ema, getattr(old, model).ema)
        assert not differs(state.behavior, old.behavior)
        missing = {name for name, value in metrics.items() if np.isnan(value)}
        assert missing == (set() if due else {"actor_loss", "actor_penalty", "actor_grad_norm"})


def test_a_cycle_is_that_many_updates():
    key, state = jax.random.key(2), linear_state()
    batches = [make_batch(i) for i in range(2 * INTERVAL)]
    cycle = jax.jit(bdpo.update_cycle)
    stepped = cycled = state
    for i in (0, INTERVAL):
        metrics = []
        for batch in batches[i : i + INTERVAL]:
            stepped, one = plain_update(stepped, batch, key)
            metrics.append(one)
        cycled, measured = cycle(cycled, stack(batches[i : i + INTERVAL]), key)
        # The critics' metrics come step by step, the actor's are those of its one update.
        assert metrics[-1].keys() == measured.keys()
        expected = {name: np.array([m[name] for m in metrics]) for name in measured}
        assert_close(measured, {name: x[-1] if name.startswith("actor") else x for name, x in expected.items()})
    assert int(cycled.step) == 2 * INTERVAL and int(cycled.actor.opt_state[1].count) == 2
    assert differs(cycled.actor.params, state.actor.params)
    assert_close(stepped, cycled)
    with pytest.raises(AssertionError):  # a cycle has no other length
        jax.eval_shape(bdpo.update_cycle, state, stack(batches[: INTERVAL + 1]), key)


def test_an_update_is_a_function_of_state_batch_and_key(initial):
    batch, key = make_batch(), jax.random.key(3)
    first, again = (update(copy(initial), batch, key) for _ in range(2))
    assert_trees(np.testing.assert_array_equal, first, again)
    assert differs(first[0].q.params, update(copy(initial), batch, jax.random.key(4))[0].q.params)
    # The step is folded into the key: the same batch at another step has other draws.
    later = update(copy(initial.replace(step=initial.step + 2)), batch, key)
    assert first[1]["v_loss"] != later[1]["v_loss"]


def test_swept_numbers_never_recompile(initial):
    batch, key = make_batch(), jax.random.key(5)
    _, before = update(copy(initial), batch, key)
    traces = TRACES["update"]
    _, metrics = update(set_hyper(copy(initial), eta=1.0), batch, key)
    assert metrics["q_target"] < before["q_target"]  # a positive penalty costs more
    _, metrics = update(set_hyper(copy(initial), rho=3.0), batch, key)
    assert metrics["q_target"] < before["q_target"]  # so does disagreement
    _, metrics = update(set_hyper(copy(initial), discount=0.0), batch, key)
    np.testing.assert_allclose(metrics["q_target"], batch.rewards.mean(), rtol=1e-5)
    # The first steps of Adam are as long as the learning rate.
    slow, fast = (update(set_hyper(copy(initial), value_lr=lr), batch, key)[0] for lr in (1e-4, 1e-2))
    moved = [np.abs(jax.tree.leaves(s.q.params)[0] - jax.tree.leaves(initial.q.params)[0]).max() for s in (slow, fast)]
    np.testing.assert_allclose(moved, [1e-4, 1e-2], rtol=0.01)
    others = {"actor_lr": 0.1, "behavior_lr": 0.1, "ema_rate": 0.5, "actor_decay_steps": 7, "value_decay_steps": 7}
    update(set_hyper(copy(initial), **others), batch, key)
    assert TRACES["update"] == traces == 1


def test_seeds_in_one_batch_are_runs_of_their_own():
    state = linear_state()
    states = [set_hyper(state.replace(step=jnp.int32(step)), eta=eta) for step, eta in ((0, 0.1), (1, 0.1), (1, 0.7))]
    keys, batch = jax.random.split(jax.random.key(6), 3), make_batch()
    together = jax.jit(jax.vmap(bdpo.update, in_axes=(0, None, 0)))(stack(states), batch, keys)
    for i, (state, key) in enumerate(zip(states, keys, strict=True)):
        alone = plain_update(state, batch, key)
        assert np.isnan(alone[1]["actor_loss"]) == (i == 0)  # the others come to step 2, with the actor
        assert_close(jax.tree.map(lambda x, i=i: x[i], together), alone)


def test_an_update_can_be_differentiated():
    batch, key = make_batch().replace(terminals=jnp.zeros(8)), jax.random.key(7)
    state = linear_state().replace(step=jnp.int32(1))  # so step 2 moves the actor

    @jax.jit
    @jax.jacrev
    def slopes(eta):
        new, metrics = bdpo.update(set_hyper(state, eta=eta), batch, key)
        parameters = [
            jnp.square(leaf).sum() for leaf in jax.tree.leaves((new.actor.params, new.q.params, new.v.params))
        ]
        return metrics["q_target"], metrics["actor_loss"], sum(parameters)

    gradients = slopes(jnp.float32(0.1))
    assert np.isfinite(gradients).all() and gradients[1] != 0
    # The target is linear in eta: no transition is terminal, so minus the discount times the penalty.
    _, metrics = plain_update(state, batch, key)
    np.testing.assert_allclose(gradients[0], -0.9 * metrics["path_penalty"], rtol=1e-4)


# Pre-training.


def test_pretraining_learns_and_the_actor_follows(initial):
    # All actions are one point: its noise can be predicted exactly.
    batch = make_batch(size=64).replace(actions=jnp.tile(jnp.array([0.5, -0.5]), (64, 1)))
    state, losses = initial, []
    for _ in range(150):
        state, metrics = pretrain(state, batch, jax.random.key(8))
        losses.append(float(metrics["behavior_loss"]))
    assert np.mean(losses[-20:]) < 0.25 * np.mean(losses[:5]), losses
    assert (int(state.pretrain_step), int(state.step), TRACES["pretrain"]) == (150, 0, 1)
    assert differs(state.behavior.params, state.behavior.ema)
    for copied in (state.actor.params, state.actor.ema):
        assert_trees(np.testing.assert_array_equal, copied, state.behavior.ema)
    for untouched in ("q", "v", "hyper"):
        assert not differs(getattr(state, untouched), getattr(initial, untouched))
    assert not differs(state.actor.opt_state, initial.actor.opt_state)
    # What pre-training returns can be donated.
    update(state, make_batch(), jax.random.key(8))


def test_a_loop_may_copy_to_the_actor_once_at_its_end():
    state, key = linear_state(), jax.random.key(10)
    followed = alone = state
    step, plain = jax.jit(bdpo.pretrain), jax.jit(bdpo.pretrain_behavior)
    for i in range(3):
        followed, _ = step(followed, make_batch(i), key)
        alone, _ = plain(alone, make_batch(i), key)
    assert not differs(alone.actor, state.actor)
    assert_close(bdpo.start_actor(alone), followed)


def test_the_behavior_model_goes_on_training_only_when_asked():
    batch, key = make_batch(), jax.random.key(11)
    frozen, metrics = plain_update(linear_state().replace(step=jnp.int32(1)), batch, key)  # step 2: with the actor
    new, more = plain_update(linear_state(behavior_finetune=True).replace(step=jnp.int32(1)), batch, key)
    assert not differs(frozen.behavior, linear_state().behavior)
    for part in ("params", "ema"):
        assert differs(getattr(new.behavior, part), getattr(frozen.behavior, part))
    assert more.keys() - metrics.keys() == {"behavior_loss", "behavior_grad_norm"}
    # It comes after the actor, whose update sees the reference as it was.
    assert_close((new.q, new.v, new.actor), (frozen.q, frozen.v, frozen.actor))


def test_the_behavior_model_takes_a_step_with_each_of_the_actor():
    state, key = linear_state(behavior_finetune=True, value_warmup_steps=2), jax.random.key(12)
    for step in range(1, 7):
        old = state
        state, metrics = plain_update(state, make_batch(step), key)
        due = step in (4, 6)  # 2 belongs to the warm-up
        for model in (state.actor, state.behavior):
            assert int(model.opt_state[1].count) == {4: 1, 5: 1, 6: 2}.get(step, 0)
        assert differs(state.behavior, old.behavior) == due
        assert np.isfinite(metrics["behavior_loss"]) == np.isfinite(metrics["behavior_grad_norm"]) == due
    # The critics' part of an update leaves it alone.
    new, metrics = jax.jit(bdpo.update_critics)(state, make_batch(), key)
    assert not differs(new.behavior, state.behavior) and "behavior_loss" not in metrics


def test_the_behavior_model_s_step_has_noise_of_its_own(monkeypatch):
    """Neither that of the actor's step, nor that of pre-training at the same count."""
    seen = []
    monkeypatch.setattr(bdpo, "update_behavior", lambda state, batch, key: (state, seen.append(key) or {}))
    monkeypatch.setattr(
        bdpo, "noisy_actions", lambda static, batch, key, _: seen.append(key) or noisy_actions(static, batch, key)
    )
    state = linear_state(behavior_finetune=True)
    later = state.replace(step=state.step + 2)

    @jax.jit
    def keys(state, later, batch, key):
        """Nothing else is computed: the updates are thrown away."""
        for function in (bdpo.update_actor, bdpo.update_critics, bdpo.pretrain_behavior):
            function(state, batch, key)
        bdpo.update_actor(later, batch, key)
        return jax.random.key_data(jnp.stack(seen))

    numbers = set(map(tuple, np.asarray(keys(state, later, make_batch(), jax.random.key(13)))))
    assert len(numbers) == len(seen) == 6


# Checkpoints.

LAYERS = (
    "['hidden_1']['bias']",
    "['hidden_1']['kernel']",
    "['input']['bias']",
    "['input']['kernel']",
    "['norm_0']['bias']",
    "['norm_0']['scale']",
    "['norm_1']['bias']",
    "['norm_1']['scale']",
    "['output']['bias']",
    "['output']['kernel']",
    "['time']['hidden']['bias']",
    "['time']['hidden']['kernel']",
    "['time']['output']['bias']",
    "['time']['output']['kernel']",
)


def test_the_names_in_a_checkpoint_are_pinned():
    """A checkpoint is read by these names, so renaming a layer or a field makes those of finished runs unreadable."""
    settings = config(actor_widths=(8, 8), value_widths=(8, 8), actor_layer_norm=True, q_layer_norm=True)
    state = jax.eval_shape(lambda key: bdpo.init(settings, key, 3, 2), jax.random.key(0))
    found = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    expected = [".step", ".pretrain_step"]
    for model in ("actor", "behavior", "q", "v"):
        layers = [name for name in LAYERS if model != "q" or "time" not in name]
        expected.append(f".{model}.opt_state[1].count")
        for part in ("params", "ema", "opt_state[1].mu", "opt_state[1].nu"):
            expected += [f".{model}.{part}['params']{name}" for name in layers]
    swept = ("eta", "rho", "discount", "behavior_lr", "actor_lr", "value_lr", "ema_rate")
    horizons = tuple(f"{model}_decay_steps" for model in ("behavior", "actor", "value"))
    expected += [f".hyper.{name}" for name in (*swept, *horizons)]
    assert sorted(found) == sorted(expected)
