"""Plain data comes through; whatever else a pickle holds is one line, and never runs."""

import os
import pickle

import numpy as np
import pytest

from videoclip.errors import DataError
from videoclip.weights.torch_file import read_plain_pickle

DATA = [{"id": "a_0", "2d": np.arange(3.0), "n": np.float32(2)}, {0: ["x", "y"], "none": None}]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_plain_data_is_read(tmp_path, protocol):
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps(DATA, protocol))
    first, second = read_plain_pickle(path)
    assert first["2d"].tolist() == [0, 1, 2]
    assert first["n"] == 2
    assert second == DATA[1]


def test_a_pickle_that_would_act_is_refused(tmp_path):
    class Act:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'acted'}",)

    (tmp_path / "act.pkl").write_bytes(pickle.dumps([Act()]))
    with pytest.raises(DataError, match=r"act\.pkl: not a pickle.*system.*: do not trust it"):
        read_plain_pickle(tmp_path / "act.pkl")
    assert not (tmp_path / "acted").exists()


def test_damage_anywhere_is_one_line(tmp_path):
    path, whole = tmp_path / "data.pkl", pickle.dumps(DATA)
    for length in range(len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="not a pickle of plain data"):
            read_plain_pickle(path)
    with pytest.raises(DataError, match="no such file"):
        read_plain_pickle(tmp_path / "nothing.pkl")
