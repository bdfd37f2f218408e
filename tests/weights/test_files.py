"""Weights are read from both kinds of file, and compared by name and shape."""

import pytest
import torch
from safetensors.torch import save_file

from videoclip.errors import CheckpointError
from videoclip.weights.files import check_shapes, fill, read_weights


def test_both_kinds_of_file_give_the_same_float32_weights(tmp_path):
    weights = {"w": torch.tensor([1.5, 2.0]).half(), "ids": torch.arange(3)}
    torch.save({"model": weights}, tmp_path / "c.pt")
    save_file(weights, tmp_path / "c.safetensors")
    for name in ("c.pt", "c.safetensors"):
        read = read_weights(tmp_path / name)
        assert read["w"].dtype == torch.float32
        assert read["w"].tolist() == [1.5, 2.0]
        assert read["ids"].dtype == torch.int64


def test_damaged_and_non_finite_weights_are_refused(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    save_file({"a": torch.ones(1), "b": torch.tensor([torch.inf])}, tmp_path / "inf.safetensors")
    with pytest.raises(CheckpointError, match=r"cut\.safetensors is damaged"):
        read_weights(tmp_path / "cut.safetensors")
    with pytest.raises(CheckpointError, match=r"cannot read .*absent\.safetensors"):
        read_weights(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="'b' holds NaN or infinite"):
        read_weights(tmp_path / "inf.safetensors")


def test_every_kind_of_difference_is_named():
    shapes = {"a": (1,), "b": (2, 3), **{f"extra{i}": () for i in range(5)}}
    found = {name: torch.ones(shape) for name, shape in shapes.items()}
    wanted = {"a": (1,), "b": (3, 2), "c": ()}
    with pytest.raises(CheckpointError) as caught:
        check_shapes(found, wanted, "file.pt")
    assert str(caught.value) == (
        "file.pt has other weights than expected: missing: 'c'; unexpected: 'extra0', 'extra1', "
        "'extra2' and 2 more; mis-shaped: 'b' is (2, 3), not (3, 2)"
    )
    check_shapes({"a": torch.ones(1, 2)}, {"a": (1, 2)}, "file.pt")


def test_a_network_is_filled_whole_or_not_at_all():
    network = torch.nn.Linear(2, 1)
    fill(network, {"weight": torch.ones(1, 2), "bias": torch.ones(1)}, "file.pt")
    assert network.weight.tolist() == [[1, 1]]
    with pytest.raises(CheckpointError, match=r"file\.pt .* missing: 'bias'"):
        fill(network, {"weight": torch.zeros(1, 2)}, "file.pt")
    assert network.weight.tolist() == [[1, 1]]
