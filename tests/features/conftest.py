"""S3D with the reference weights, rebuilt from the recipe in golden/README.md."""

import json
import zlib

import av
import numpy as np
import pytest
import torch

from videoclip.features.backbones.s3d import S3D

GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def uniform(seed, name, count):
    """Numbers in [0, 1) that depend on (seed, name) alone: splitmix64, as the recipe says."""
    key = np.uint64((seed << 32) | zlib.crc32(name.encode()))
    u = np.empty(count, dtype=np.float32)
    for start in range(0, count, 2**16):  # pieces that stay in cache
        stop = min(start + 2**16, count)
        z = key + np.arange(start + 1, stop + 1, dtype=np.uint64) * GOLDEN_GAMMA
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        u[start:stop] = (z ^ (z >> np.uint64(31))) >> np.uint64(40)
    return u * np.float32(2**-24)


def recipe_tensor(seed, name, shape):
    """One tensor of the recipe."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    u = uniform(seed, name, int(np.prod(shape)))
    symmetric = 2 * u - 1
    if name.endswith("running_var") or (".bn" in name and name.endswith("weight")):
        values = np.float32(0.5) + u
    elif name.endswith("running_mean"):
        values = symmetric * np.float32(0.2)
    elif name.endswith("bias"):
        values = symmetric * np.float32(0.25)
    elif name == "text_module.word_embd.weight":
        values = symmetric
    else:
        values = symmetric * np.float32(np.sqrt(6 / np.prod(shape[1:])))
    return torch.from_numpy(values.reshape(shape))


@pytest.fixture(scope="session")
def golden(shared):
    return np.load(shared / "golden/s3d/s3d.npz")


@pytest.fixture(scope="session")
def facts(shared):
    """Seed, words and what every tensor of the recipe must be."""
    return json.loads((shared / "golden/s3d/s3d.json").read_text())


@pytest.fixture(scope="session")
def network(facts):
    state = {
        name: recipe_tensor(facts["seed"], name, entry["shape"])
        for name, entry in facts["tensors"].items()
    }
    network = S3D()
    network.load_state_dict(state, assign=True)
    return network.eval()


@pytest.fixture(scope="session")
def video(tmp_path_factory):
    """A video of 1.4 seconds, 30 frames a second, 80 x 64, brighter with time."""
    path = tmp_path_factory.mktemp("videos") / "bright.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 80, 64, "yuv420p"
        for brightness in range(42):
            picture = np.full((64, 80, 3), 4 * brightness + 20, dtype=np.uint8)
            picture[:, : brightness + 8] //= 2
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    return path
