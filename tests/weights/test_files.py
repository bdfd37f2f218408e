"""Weights are compared by name and shape, and folders appear whole or not at all."""

import pytest
import torch
from safetensors.torch import save_file

from videoclip.errors import CheckpointError, ConfigError
from videoclip.weights.files import check_shapes, new_folder, read_weights, shapes_of


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
    found = {"a": (1,), "b": (2, 3), **{f"extra{i}": () for i in range(5)}}
    wanted = {"a": (1,), "b": (3, 2), "c": ()}
    with pytest.raises(CheckpointError) as caught:
        check_shapes(found, wanted, "file.pt")
    assert str(caught.value) == (
        "file.pt has other weights than expected: missing: 'c'; unexpected: 'extra0', 'extra1', "
        "'extra2' and 2 more; mis-shaped: 'b' is (2, 3), not (3, 2)"
    )
    check_shapes(shapes_of({"a": torch.ones(1, 2)}), {"a": (1, 2)}, "file.pt")


def test_a_new_folder_appears_whole(tmp_path):
    with new_folder(tmp_path / "deep" / "model") as folder:
        (folder / "a.txt").write_text("a")
        assert not (tmp_path / "deep" / "model").exists()
    assert [p.name for p in (tmp_path / "deep").rglob("*")] == ["model", "a.txt"]


def test_a_failed_folder_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), new_folder(tmp_path / "model") as folder:
        (folder / "a.txt").write_text("a")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_kept(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("a")
    (tmp_path / "file").write_text("b")
    (tmp_path / "empty").mkdir()
    for name in ("full", "file"):
        with pytest.raises(ConfigError, match="already exists"), new_folder(tmp_path / name):
            pass
    with new_folder(tmp_path / "empty") as folder:
        (folder / "b.txt").write_text("b")
    assert (tmp_path / "empty" / "b.txt").read_text() == "b"
