import numpy as np
import torch

from videoclip.features.backbones.motion import FLATNESS, NEIGHBOURHOOD, SMOOTHING, flow


def texture(right=0.0, down=0.0, height=24, width=32):
    """Waves of many directions, moved by so many pixels."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width]
    fx, fy = rng.uniform(-0.8, 0.8, (2, 12, 1, 1))
    phases = rng.uniform(0, 6.3, (12, 1, 1))
    return 0.5 + np.sin(fx * (x - right) + fy * (y - down) + phases).mean(axis=0) / 2


def box_mean(picture, side):
    padded = np.pad(picture, side // 2, mode="edge")
    boxes = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
    return boxes.mean(axis=(2, 3))


def test_a_picture_that_moves_is_seen_to_move():
    for right, down in ((1.0, 0.0), (0.0, -1.0), (0.5, 0.8)):
        pair = torch.tensor(np.stack([texture(), texture(right, down)]))
        found = flow(pair)[0, :, 6:-6, 6:-6]
        assert found.shape == (2, 12, 20)
        np.testing.assert_allclose(found.mean(dim=(1, 2)), [right, down], atol=0.12)


def test_what_stands_still_or_is_flat_does_not_move():
    still = torch.tensor(texture()).expand(3, -1, -1)
    assert not flow(still).any()
    brighter = torch.linspace(0, 1, 4)[:, None, None].expand(4, 9, 9)
    assert not flow(brighter).any()


def test_time_runs_backwards():
    pictures = torch.rand(4, 10, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(flow(pictures.flip(0)), -flow(pictures).flip(0))


def test_every_pixel_solves_its_least_squares():
    """The naive twin: one small system of equations a pixel."""
    pictures = np.random.default_rng(1).random((3, 9, 11))
    smooth = np.stack([box_mean(p, SMOOTHING) for p in pictures])
    for k, found in enumerate(flow(torch.tensor(pictures)).numpy()):
        middle = np.pad((smooth[k] + smooth[k + 1]) / 2, 1, mode="edge")
        slopes = np.stack(
            [middle[1:-1, 2:] - middle[1:-1, :-2], middle[2:, 1:-1] - middle[:-2, 1:-1]]
        )
        slopes, change = slopes / 2, smooth[k + 1] - smooth[k]
        reach = NEIGHBOURHOOD // 2
        slopes = np.pad(slopes, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
        change = np.pad(change, reach, mode="edge")
        for y in range(9):
            for x in range(11):
                near = np.s_[y : y + NEIGHBOURHOOD, x : x + NEIGHBOURHOOD]
                design, target = slopes[:, *near].reshape(2, -1), change[near].ravel()
                normal = design @ design.T / target.size + FLATNESS * np.eye(2)
                expected = np.linalg.solve(normal, -design @ target / target.size)
                np.testing.assert_allclose(found[:, y, x], expected, atol=1e-9)
