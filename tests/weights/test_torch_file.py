"""Checkpoints are read, whatever classes they drag along, and nothing in them ever runs."""

import argparse
import collections
import io
import os
import pickle
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from videoclip.errors import CheckpointError
from videoclip.weights.torch_file import InertUnpickler, Placeholder, TorchFile

LAYOUTS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])


class Unknown(dict):
    """Stands for a class of the training code, absent where the checkpoint is read."""

    def __init__(self, **values):
        super().__init__(values)
        self.values = values


def save(content, path, zipped=True):
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def load_all(path):
    with TorchFile(path) as file:
        return {name: file.load(tensor) for name, tensor in file.state_dict().items()}


@LAYOUTS
@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64),
        *(torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    ],
)
def test_tensors_of_every_type_come_back_as_saved(tmp_path, zipped, dtype):
    tensor = (torch.rand(3, 4, generator=torch.Generator().manual_seed(1)) * 100).to(dtype)
    (back,) = load_all(save({"x": tensor}, tmp_path / "c.pt", zipped)).values()
    assert back.dtype == dtype
    assert torch.equal(back, tensor)


@LAYOUTS
def test_views_scalars_empty_and_shared_tensors_come_back(tmp_path, zipped):
    whole = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "whole": whole,
        "transposed": whole.T,
        "inner": whole[1:3, 2:5],
        "scalar": torch.tensor(7.0),
        "last": whole[3, 5],
        "empty": torch.empty(0, 5),
        "parameter": torch.nn.Parameter(whole * 2),
        "expanded": torch.ones(1, 3).expand(1, 3),
    }
    back = load_all(save(tensors, tmp_path / "c.pt", zipped))
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(back[name], tensor), name
        assert back[name].is_contiguous()


@LAYOUTS
@pytest.mark.parametrize("key", ["model", "state_dict", None])
def test_weights_are_found_beside_unknown_objects(tmp_path, zipped, key):
    module = torch.nn.Linear(3, 2)
    state = module.state_dict()
    content = state
    if key:
        content = {
            "args": argparse.Namespace(lr=0.1, nested=Unknown(a=1)),
            "cfg": Unknown(model=Unknown(layers=[1, 2])),
            key: state,
            "optimizer_history": [{"meter": Unknown(x=torch.ones(2)), "seen": {1, 2}}],
            "extra_state": collections.defaultdict(list, best=np.float64(1.5), rng=np.arange(3)),
            "when": Path("somewhere"),
        }
    back = load_all(save(content, tmp_path / "c.pt", zipped))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_unknown_classes_are_inert_and_ordinary_content_is_kept(tmp_path):
    content = {"args": Unknown(a=1), "epoch": 3, "names": ["a", ("b", None)]}
    with TorchFile(save(content, tmp_path / "c.pt")) as file:
        assert isinstance(file.content["args"], Placeholder)
        assert file.content["epoch"] == 3
        assert file.content["names"] == ["a", ("b", None)]


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@LAYOUTS
@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (os.system, "touch {}"),
        (os.mkdir, "{}"),
        (eval, "open('{}', 'w')"),
        (exec, "open('{}', 'w')"),
        (open, "{}"),
        (subprocess.check_output, "touch {}"),
        (pickle.loads, b"anything"),
        (__import__, "antigravity"),
    ],
)
def test_a_pickle_that_tries_to_run_code_is_refused(tmp_path, zipped, function, argument):
    victim = tmp_path / "ran"
    if isinstance(argument, str):
        argument = argument.format(victim)
    content = {"model": {"w": torch.ones(2)}, "args": Calls(function, argument)}
    path = save(content, tmp_path / "evil.pt", zipped)
    with pytest.raises(CheckpointError, match="tries to run code") as caught:
        TorchFile(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not victim.exists()


def test_code_hidden_in_an_installed_package_does_not_run_either(tmp_path):
    victim = tmp_path / "ran"
    function = np.testing.runstring  # executes its text
    content = {
        "model": {"w": torch.ones(2)},
        "x": Calls(function, f"open({str(victim)!r}, 'w')", {}),
    }
    assert load_all(save(content, tmp_path / "evil.pt"))["w"].tolist() == [1, 1]
    assert not victim.exists()


def altering_pickle(name, attributes):
    """`name.__setstate__((None, attributes))`, written out by hand."""
    module, _, name = name.rpartition(".")
    state = pickle.dumps((None, attributes), protocol=2)[2:-1]
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + state + b"b."


@pytest.mark.parametrize(
    "name",
    [
        "torch._utils._rebuild_tensor_v2",
        "torch.FloatStorage",
        "collections.OrderedDict",
        "fairseq.Thing",
    ],
)
def test_a_pickle_cannot_alter_what_reads_it(name, tmp_path):
    pickled = altering_pickle(name, {"function": 1, "dtype": 2, "__defaults__": ()})
    with pytest.raises((AttributeError, TypeError)):
        InertUnpickler(io.BytesIO(pickled)).load()
    path = save({"x": torch.ones(2)}, tmp_path / "c.pt")
    assert load_all(path)["x"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [
        *((0, (5,), (1,)), (1, (4,), (1,)), (0, (2, 2), (3, 1)), (-1, (2,), (1,))),
        *((0, (2,), (-1,)), (0, (10**9,), (0,)), (0, (2.0,), (1,)), (0, (2, 2), (1,)), (4, (), ())),
    ],
)
def test_a_tensor_beyond_its_numbers_is_refused(tmp_path, offset, shape, stride):
    class Forged:
        def __reduce__(self):
            storage = torch.arange(4.0).untyped_storage()
            typed = torch.storage.TypedStorage(
                wrap_storage=storage, dtype=torch.float32, _internal=True
            )
            arguments = (typed, offset, shape, stride, False, collections.OrderedDict())
            return torch._utils._rebuild_tensor_v2, arguments

    path = save({"x": Forged()}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="damaged"):
        TorchFile(path)


@LAYOUTS
def test_truncated_files_are_damaged_wherever_they_end(tmp_path, zipped):
    path = save({"model": {"w": torch.rand(200, 20)}}, tmp_path / "c.pt", zipped)
    data = path.read_bytes()
    for length in [0, 1, 10, 100, len(data) // 2, len(data) - 3000, len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"c\.pt is damaged .*: download it again"):
            load_all(path)


def test_a_changed_byte_of_the_weights_is_noticed_in_an_archive(tmp_path):
    path = save({"w": torch.full((500,), 0.25)}, tmp_path / "c.pt")
    data = bytearray(path.read_bytes())
    data[data.index(np.float32(0.25).tobytes() * 100) + 7] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        load_all(path)


# Positions are shares of the file: its length varies by the digits of an address torch writes.
DAMAGE = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255))


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(damages=st.lists(DAMAGE, min_size=1, max_size=4), zipped=st.booleans())
def test_random_damage_gives_our_error_or_a_tensor(tmp_path_factory, damages, zipped):
    path = tmp_path_factory.mktemp("fuzz") / "c.pt"
    save({"model": {"w": torch.ones(6)}, "args": argparse.Namespace(a=1)}, path, zipped)
    content = bytearray(path.read_bytes())
    for position, value in damages:
        content[int(position * len(content))] = value
    path.write_bytes(content)
    try:
        weights = load_all(path)
    except CheckpointError as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(w, torch.Tensor) for w in weights.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no weights"),
        ({}, "holds no weights"),
        (torch.nn.Linear(2, 2), "holds no weights"),
        ({"model": {"w": torch.ones(1), "note": "hello"}}, "more than weights .'note'."),
    ],
)
def test_a_file_without_plain_weights_is_refused(tmp_path, content, message):
    with pytest.raises(CheckpointError, match=message):
        load_all(save(content, tmp_path / "c.pt"))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="cannot read"):
        TorchFile(tmp_path / "absent.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps({"model": 1}))
    (tmp_path / "words.pt").write_text("hello")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with zipfile.ZipFile(tmp_path / "big.zip", "w") as archive:
        archive.writestr("c/data.pkl", pickle.dumps({}))
        archive.writestr("c/byteorder", "big")
    for name in ("pickle.pt", "words.pt", "other.zip", "big.zip"):
        with pytest.raises(CheckpointError, match=f"{name} is damaged or not a PyTorch checkpoint"):
            TorchFile(tmp_path / name)


def test_compressed_numbers_are_refused_before_they_are_unpacked(tmp_path):
    saved = save({"w": torch.zeros(10**5)}, tmp_path / "c.pt")
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as bomb:
        for entry in source.infolist():
            method = zipfile.ZIP_DEFLATED if "/data/" in entry.filename else zipfile.ZIP_STORED
            bomb.writestr(entry.filename, source.read(entry), method)
    with pytest.raises(CheckpointError, match="damaged"):
        load_all(tmp_path / "bomb.pt")
