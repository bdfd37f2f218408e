"""What is read from files of weights, and every reason to refuse one, as approved."""

import collections
import io
import pickle
import struct
from functools import partial
from types import SimpleNamespace

import numpy as np
import safetensors.torch
import torch

from tests import approved
from videoclip.weights import files, torch_file
from videoclip.weights.torch_file import Storage, TorchFile, read_plain_pickle

NUMBERS = torch.arange(24, dtype=torch.float32).reshape(4, 6)


def test_weights(tmp_path):
    tensors = {
        "half": torch.tensor([0.5, 2.0], dtype=torch.float16),
        "long": torch.tensor([3, 4]),
        "view": NUMBERS[1:3, ::2],
        "turned": NUMBERS.T[2:],
        "bool": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "one": torch.tensor(7.5, dtype=torch.bfloat16),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(plain, tmp_path / "a.safetensors")
    bad = {"ok": torch.ones(2), "bad": torch.tensor([1.0, torch.inf])}
    safetensors.torch.save_file(bad, tmp_path / "b.safetensors")
    (tmp_path / "c.safetensors").write_bytes(b"\x09" * 40)
    found = {}
    for zipped in (True, False):
        path = tmp_path / f"{zipped}.pt"
        content = {"model": tensors, "state_dict": {}, "cfg": SimpleNamespace(a=1), "epoch": 3}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        with TorchFile(path) as file:
            found[f"stored, zipped {zipped}"] = {
                "kinds": {name: type(value).__name__ for name, value in file.content.items()},
                "tensors": [
                    [name, str(one.storage.dtype), one.storage.numel, one.offset, one.stride]
                    for name, one in file.state_dict().items()
                ],
                "loaded": {name: file.load(one) for name, one in file.state_dict().items()},
            }
    mixed = {"w": torch.ones(1), "note": "x"}
    for name, content in {
        "mixed": mixed,
        "list": [1],
        "nothing": {},
        "nested": {"model": mixed},
    }.items():
        torch.save(content, tmp_path / f"{name}.pt")
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "code.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    large = {"large": torch.full((3,), 3e38)}
    safetensors.torch.save_file(large, tmp_path / "large.safetensors")
    network = torch.nn.Linear(2, 1)
    files.fill(network, {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])}, "here")
    many = {f"w{i}": torch.ones(1) for i in range(5)}
    read = files.read_weights
    calls = {
        "safetensors": lambda: sorted(read(tmp_path / "a.safetensors").items()),
        "absent": partial(read, tmp_path / "absent.pt"),
        "no safetensors": partial(read, tmp_path / "absent.safetensors"),
        "damaged": partial(read, tmp_path / "c.safetensors"),
        "large": lambda: sorted(read(tmp_path / "large.safetensors")),
        "no numbers": partial(files.check_shapes, {"a": torch.zeros(0, 3)}, {"a": (2, 3)}, "f"),
        "infinite": partial(read, tmp_path / "b.safetensors"),
        "named": lambda: sorted(read(tmp_path / "True.pt", ["half", "long"]).items()),
        "a name that is absent": partial(read, tmp_path / "False.pt", ["half", "z", "y"]),
        "absent safetensors name": partial(read, tmp_path / "a.safetensors", ["q"]),
        "shapes": partial(files.check_shapes, many, {"a": (1,), "w1": (2,), "w0": (1,)}, "f"),
        "no bias": partial(files.fill, network, {"weight": torch.ones(1, 2)}, "f"),
        "package": partial(files.packaged_file, "numpy", "no.bin", "this", "extra"),
        "no package": partial(files.packaged_file, "no_such", "no.bin", "this", "extra"),
    }
    calls |= {
        name: partial(read, tmp_path / f"{name}.pt")
        for name in ("mixed", "list", "nothing", "nested", "text", "code")
    }
    found["reads"] = {name: approved.outcome(call) for name, call in calls.items()}
    found["filled"] = network(torch.ones(1, 2)).detach()
    blob = bytes(i * 7 % 251 for i in range(300_000))
    (tmp_path / "blob").write_bytes(blob)
    (tmp_path / "small").write_bytes(b"small")
    found["digests"] = [
        files.sampled_digest([tmp_path / name for name in names])
        for names in (["blob"], ["small"], ["blob", "small"], [])
    ]
    found["package file"] = files.packaged_file("numpy", "py.typed", "x", "y").name
    approved.check("weights", found, TMP=tmp_path)


def test_what_a_pickle_may_describe(tmp_path):
    rebuild = torch_file._rebuild_tensor
    store = Storage("0", torch.float32, 6)
    calls = {
        "whole": partial(rebuild, store, 0, (2, 3), (3, 1), False, None),
        "last": partial(rebuild, store, 5, (1,), (1,)),
        "beyond": partial(rebuild, store, 4, (3,), (1,)),
        "more than all": partial(rebuild, store, 0, (7,), (0,)),
        "repeated": partial(rebuild, store, 0, (2, 3), (0, 1)),
        "empty": partial(rebuild, store, 9, (0,), (1,)),
        "negative": partial(rebuild, store, 0, (2,), (-1,)),
        "no storage": partial(rebuild, "x", 0, (2,), (1,)),
    }
    unpickler = torch_file.InertUnpickler(io.BytesIO())
    names = [
        ("torch", "FloatStorage"),
        ("torch.storage", "BoolStorage"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("collections", "OrderedDict"),
        ("collections", "deque"),
        ("argparse", "Namespace"),
        ("fairseq.data", "Dictionary"),
        ("os", "system"),
        ("__builtin__", "eval"),
        ("copy_reg", "_reconstructor"),
        ("os.path", "join"),
        ("torch", "load"),
    ]

    def name_of(pair):
        found = unpickler.find_class(*pair)
        return (
            getattr(found, "__name__", None) or type(found).__name__ + f" {found}".split(" at ")[0]
        )

    calls |= {".".join(pair): partial(name_of, pair) for pair in names}
    pids = [
        ("storage", torch.float32, "0", "cpu", 6),
        ("storage", torch.float16, 1, "cuda:0", 6, None),
        ("storage", torch.int64, "2", "cpu", 6, ("v", 2, 3)),
        ("storage", torch.int64, "3", "cpu", -1),
        ("storage", torch.int64, "3", "cpu", "6"),
        ("storage", torch.int64, "3", "cpu", 6, ("v", -2, 3)),
        ("module", torch.int64, "3", "cpu", 6),
    ]

    def loaded(pid):
        found = unpickler.persistent_load(pid)
        return found if isinstance(found, Storage) else type(found).__name__

    found = {name: approved.outcome(call) for name, call in calls.items()}
    found["storages"] = [str(approved.outcome(partial(loaded, pid))) for pid in pids]
    found["types"] = {key: str(dtype) for key, dtype in unpickler.dtypes.items()}
    data = {
        "plain": {"a": [1, 2.5, "é", None, (True,)]},
        "a set": {3},
        "array": np.arange(4, dtype=np.int16).reshape(2, 2),
        "scalar": np.float32(1.5),
        "code": print,
        "dict": collections.OrderedDict(a=1),
    }
    for name, value in data.items():
        (tmp_path / name).write_bytes(pickle.dumps(value, protocol=2))
    (tmp_path / "cut").write_bytes((tmp_path / "array").read_bytes()[:-20])
    (tmp_path / "old").write_bytes(b"\x80\x02U\x02a\xe9.")
    found["plain pickles"] = {
        name: approved.outcome(partial(read_plain_pickle, tmp_path / name))
        for name in [*data, "cut", "old", "absent"]
    }
    approved.check(
        "weights-pickles", {k: str(v) if k in calls else v for k, v in found.items()}, TMP=tmp_path
    )


def test_streams_of_old_files(tmp_path):
    def write(name, order=True, numel=2, key="0", magic=torch_file.STREAM_MAGIC):
        class Dumper(pickle.Pickler):
            def persistent_id(self, value):
                if isinstance(value, Storage):
                    return ("storage", torch.FloatStorage, "0", "cpu", 2, None)
                return None

        file = io.BytesIO()
        for value in (magic, 1001, {"little_endian": order}):
            pickle.dump(value, file, protocol=2)
        Dumper(file, protocol=2).dump({"w": Storage("0", torch.float32, 2)})
        pickle.dump([key], file, protocol=2)
        file.write(struct.pack("<q", numel) + struct.pack("<2f", 1.5, -2))
        (tmp_path / name).write_bytes(file.getvalue())
        return tmp_path / name

    def ranges(path):
        with TorchFile(path) as file:
            return [size for _, size in file._ranges.values()], bytes(file._numbers("0", 4, 4))

    paths = {
        "whole": write("a"),
        "big-endian": write("b", order=False),
        "longer": write("c", numel=3),
        "negative": write("d", numel=-1),
        "shorter": write("e", numel=1),
        "other key": write("f", key="9"),
        "no magic": write("g", magic=5),
    }
    for name, end in {"cut in numbers": -3, "cut before numbers": -9, "cut early": 30}.items():
        paths[name] = tmp_path / name
        paths[name].write_bytes(paths["whole"].read_bytes()[:end])
    found = {name: approved.outcome(partial(ranges, path)) for name, path in paths.items()}
    approved.check("weights-streams", found, TMP=tmp_path)
