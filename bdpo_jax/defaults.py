"""Every hyper-parameter once: what it is, its unit, and where the value comes from.

Sources: [T2] the paper's Table 2, [rel] the settings that the authors released with their code, [ours].
"""

from ml_collections import ConfigDict

SWEPT = ("eta", "rho", "discount", "behavior_lr", "actor_lr", "value_lr", "ema_rate")  # what `sweep` may name


def get_config() -> ConfigDict:
    """Returns the settings common to the D4RL tasks; the files of `configs/` change what differs."""
    c = ConfigDict()
    # What to train on
    c.suite = "d4rl"  # kind of task: "d4rl", "synthetic2d", "pointmass", "minari", "ogbench" or "file"
    c.task = ""  # name of the task within its suite
    c.dataset_path = ""  # a D4RL-format HDF5 file, or the folder that holds the task's; "": D4RL's cache, or download
    c.env = ""  # gymnasium id to score a file of one's own in; "": no scores. Other tasks have their own environment
    c.backend = "mujoco"  # of D4RL tasks: "mujoco" (D4RL's physics), "gymnasium" (-v4, others), "d4rl" (original stack)
    c.mirrors = ("http://rail.eecs.berkeley.edu/datasets/offline_rl",)  # where D4RL's files are looked for, in turn
    # Where the data lie while training: "device"; "host", batches being copied ahead, the same numbers; "auto": on the
    # host where they would take more than half of what JAX may use of an accelerator's memory
    c.dataset_memory = "auto"
    c.dataset_size = 0  # number of generated transitions (2D) or episodes (point mass)
    c.reward_scaling = "auto"  # "auto": 1000 / (max - min return) in locomotion, 100 in antmaze [rel]; "none"; a number
    c.seed = 0  # of everything random in the run
    c.dataset_seed = -1  # of generated data; -1: the run's seed

    # Members: runs side by side over one dataset, each in a directory of its own
    c.seeds = ()  # several seeds instead of one
    # values of a number instead of one, --config.sweep.eta="(0.1,1.0)"
    c.sweep = ConfigDict({key: () for key in SWEPT})
    c.members_at_once = 0  # the others wait for their turn; 0: all at once
    c.devices = 0  # how many of them to use; 0: all, members first and then parts of the batch

    # Method
    c.eta = 1.0  # KL strength, reward units (Table 3; per task)
    c.rho = 1.0  # pessimism: standard deviations below the ensemble's mean (Table 3; per task)
    c.aggregation = "lcb"  # of the ensemble's values: "lcb" (17), "min", "mean"
    c.max_q_backup = False  # max instead of mean over the action samples at s' (antmaze: True)
    c.discount = 0.99  # per environment step [T2]; antmaze 0.995
    c.actor_samples = 10  # M, actions per state in targets and in the actor's objective [T2]
    c.actor_update_interval = 5  # critic updates per actor update [T2]
    c.behavior_finetune = False  # go on training the behavior model while the actor trains ([rel]: True)
    c.one_step = False  # every transition is terminal: no path is sampled at s'
    c.greedy_candidates = 10  # actions drawn when acting, the one of highest Q is taken; 1: no selection

    # Diffusion
    c.diffusion_steps = 5  # N [T2]
    c.beta_min = 0.1  # variance-preserving schedule [rel]
    c.beta_max = 10.0  # [rel]
    c.posterior_variance = False  # reverse variance as printed under (8) instead of beta_n [rel]
    c.clip_denoised = True  # clip the implied clean action to the action box in each reverse step [T2]
    c.action_bound = 1.0  # half-width of the action box [T2]
    c.stratified = True  # fixed number of rows per n in the V and actor updates instead of independent draws [ours]

    # Networks
    c.actor_widths = (512, 512, 512, 512)  # hidden layers of both noise predictors [T2]; locomotion, 2D 256x4 [rel]
    c.value_widths = (256, 256, 256)  # hidden layers of each Q and V [T2]
    c.ensemble_size = 10  # K, members of Q and of V [T2]
    c.q_layer_norm = False  # layer norm in Q; V has it always [rel]; antmaze True

    # of hidden layers: "float32", or "bfloat16" for speed; parameters, targets and sums stay float32
    c.dtype = "float32"

    # Optimization
    c.batch_size = 256  # transitions [T2]
    c.behavior_lr = 3e-4  # Adam, constant [rel]; antmaze 1e-4
    c.actor_lr = 1e-5  # Adam, cosine decay [T2]
    # cosine horizon in actor updates; 0: train_steps (ends at 0.9 of its start) [rel]; -1: the budget (ends at nothing)
    c.actor_decay_steps = 0
    c.value_lr = 3e-4  # Adam, cosine decay [T2, rel]
    c.value_decay_steps = 0  # cosine horizon in critic updates; 0: train_steps [rel]
    c.clip_norm = 1.0  # global gradient norm, of each of the four models [T2, rel]
    c.ema_rate = 0.005  # of every moving average [T2]

    # Budget
    c.pretrain_steps = 2_000_000  # updates of the behavior model [T2]
    c.train_steps = 2_000_000  # critic updates [T2]
    c.value_warmup_steps = 50_000  # of these, the first so many leave the actor alone [T2]

    # Evaluation, logging, checkpoints
    c.evaluate_every = 50_000  # training updates; the run's end is always evaluated
    c.eval_episodes = 10  # per evaluation; antmaze 100
    c.final_episodes = 0  # in the last evaluation; 0: eval_episodes
    c.log_every = 1_000  # updates; also how long a stop signal may have to wait
    c.checkpoint_every = 50_000  # updates
    c.keep_checkpoints = 3  # number of checkpoints kept
    c.wandb = ""  # name of a Weights & Biases project; "": none
    c.compilation_cache = "~/.cache/bdpo_jax"  # compiled programs, reused by later starts; "": none
    c.deterministic = False  # on GPUs, XLA's deterministic operations: a resumed run equals an unbroken one
    return c
