"""The motions differ in what a short window of frames shows."""

from __future__ import annotations

import numpy as np
import pytest

from aamn.data.datasets.a2d_labels import ACTIONS
from aamn.data.synthetic.actors import BUILDS, Actor, extents, shape
from aamn.data.synthetic.labels import ACTIONS_OF
from aamn.data.synthetic.motions import Stage, Territory, Track, bounce, enter, perform

ROOM = Territory(left=20.0, top=30.0, right=140.0, bottom=95.0)
PAIRS = [(name, action) for name, actions in ACTIONS_OF.items() for action in actions]


def performances(action: str, count: int = 20) -> list[Track]:
    rng = np.random.default_rng(3)
    return [perform(action, Stage(ROOM, 32, 120, rng)) for _ in range(count)]


@pytest.mark.parametrize(
    ("start", "speed", "low", "high", "want"),
    [
        (0, 1, 0, 2, [0, 1, 2, 1, 0, 1]),
        (2, 1.5, 0, 3, [2, 2.5, 1, 0.5, 2, 2.5]),
        (1, -1, 0, 2, [1, 0, 1, 2, 1, 0]),
        (5, 0, 0, 9, [5, 5, 5, 5, 5, 5]),
        (4, 3, 4, 4, [4, 4, 4, 4, 4, 4]),
    ],
)
def test_bounce_turns_at_both_ends(start, speed, low, high, want):
    np.testing.assert_allclose(bounce(start, speed, 6, low, high), want)


@pytest.mark.parametrize("action", ACTIONS)
def test_the_centre_stays_in_its_territory(action):
    for track in performances(action):
        assert track.x.min() >= ROOM.left - 1e-9 and track.x.max() <= ROOM.right + 1e-9
        assert track.y.min() >= ROOM.top - 1e-9 and track.y.max() <= ROOM.bottom + 1e-9


def test_horizontal_speeds_are_ordered_and_apart():
    """Median steps in pixels: each travelling action is clearly faster than the one before."""
    step = {
        action: [np.median(np.abs(np.diff(track.x))) for track in performances(action)]
        for action in ACTIONS
    }
    for still in ("none", "eating", "jumping", "climbing"):
        assert max(step[still]) == 0
    for slower, faster in (("none", "crawling"), ("crawling", "walking"), ("walking", "running")):
        assert min(step[faster]) > 1.5 * max(step[slower])


def test_vertical_motion():
    for track in performances("climbing"):
        assert np.diff(track.y).max() < 0, "always upward"
    for track in performances("jumping"):
        for start in range(24):
            assert np.ptp(track.y[start : start + 5]) > 4, "any five frames show the hop"
    for action in ("none", "eating", "walking", "running", "crawling", "rolling"):
        assert all(np.ptp(track.y) == 0 for track in performances(action))
    assert all(np.ptp(track.y) > 15 for track in performances("flying"))


def test_only_rolling_turns_over():
    for action in ACTIONS:
        for track in performances(action):
            turn = np.abs(np.diff(track.rotation)).sum()
            assert (turn > 2 * np.pi) == (action == "rolling")


def test_heads_move_for_eating_alone_and_limbs_for_walkers():
    for action in ACTIONS:
        for track in performances(action):
            assert (np.ptp(track.dip) > 0.9) == (action == "eating")
            limbs = np.ptp(track.swing * np.sin(track.phase))
            assert (limbs > 0.5) >= (action in ("climbing", "crawling", "running", "walking"))


def test_travellers_look_where_they_go():
    for action in ("crawling", "walking", "running", "flying"):
        for track in performances(action):
            step = np.diff(track.x)
            turning = np.abs(step) < 0.99 * np.abs(step).max()
            np.testing.assert_array_equal(
                np.sign(step)[~turning], track.heading[:-1][~turning], err_msg=action
            )


@pytest.mark.parametrize("action", ["walking", "running", "rolling"])
def test_a_late_actor_comes_in_at_its_frame(action):
    for track in performances(action):
        late = enter(track, frame=10, half_width=12, width=160)
        reach = np.abs(late.x - 80)
        assert (reach[:11] > 80 + 12).all(), "out of the picture up to the frame"
        assert (np.diff(reach[8:18]) < 0).all(), "then coming nearer"


@pytest.mark.parametrize(("name", "action"), PAIRS)
def test_shapes_follow_the_pose_within_their_extents(name, action):
    track = perform(action, Stage(ROOM, 32, 120, np.random.default_rng(5)))
    actor = Actor(0, name, "red", action, 40.0, track)
    half_width, half_height = extents(name, action)
    outlines = []
    for frame in range(32):
        points = np.concatenate([part.points for part in shape(actor, frame)])
        away = np.abs(points - (track.x[frame], track.y[frame])).max(0) / actor.size
        assert away[0] <= half_width + 0.16 and away[1] <= half_height + 0.16
        outlines.append((points - (track.x[frame], track.y[frame])) * (track.heading[frame], 1))
    moves = max(np.abs(a - b).max() for a, b in zip(outlines, outlines[5:], strict=False))
    poseless = action == "none" or (name, action) in {("ball", "jumping"), ("car", "jumping")}
    assert (moves < 1e-9) == poseless, "limbs, head or wings move unless the actor has none"


def test_sizes_are_a_fifth_to_a_half_of_the_picture():
    for build in BUILDS.values():
        assert 0.2 <= build.smallest < build.largest <= 0.5
