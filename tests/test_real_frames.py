"""Real frames and a detector this project did not train: boxes go through the store's public
writer, and the linker follows the annotated animal or car."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou, masks_to_boxes, nms, roi_align

from aamn.tubes.linking import link_tubes
from proposals.frames import open_frames
from proposals.store import ProposalStore
from proposals.store_writer import write_proposals

REAL_DATA = Path(os.environ.get("AAMN_REAL_DATA", Path(__file__).parents[2] / "shared/data"))
DAVIS, YOLOX = REAL_DATA / "davis", REAL_DATA / "onnx/yolox_nano.onnx"
SIDE = 416  # of YOLOX-nano's input square
K = 6

pytestmark = pytest.mark.skipif(
    not (DAVIS.is_dir() and YOLOX.is_file()),
    reason=f"needs DAVIS frames and YOLOX weights in {REAL_DATA} (or AAMN_REAL_DATA)",
)


@pytest.fixture(scope="module")
def yolox():
    return cv2.dnn.readNetFromONNX(str(YOLOX))


def detect(network, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """YOLOX's boxes of an RGB frame (H0, W0, 3): xyxy pixels, scores, COCO classes."""
    h0, w0 = frame.shape[:2]
    scale = min(SIDE / h0, SIDE / w0)
    square = np.full((SIDE, SIDE, 3), 114, np.uint8)
    small = cv2.resize(frame, (round(w0 * scale), round(h0 * scale)))
    square[: small.shape[0], : small.shape[1]] = small
    network.setInput(
        np.ascontiguousarray(square[None, :, :, ::-1].transpose(0, 3, 1, 2), np.float32)
    )
    rows = network.forward()[0]
    cells = [np.indices((SIDE // s, SIDE // s))[::-1].reshape(2, -1).T for s in (8, 16, 32)]
    strides = np.repeat([8, 16, 32], [len(c) for c in cells])[:, None]
    centre = (rows[:, :2] + np.concatenate(cells)) * strides / scale
    half = np.exp(rows[:, 2:4]) * strides / scale / 2
    boxes = np.concatenate([centre - half, centre + half], 1)
    boxes = boxes.clip(0, [w0, h0, w0, h0])
    scores = (rows[:, 4:5] * rows[:, 5:]).max(1)
    labels = rows[:, 5:].argmax(1)
    large = (scores > 0.02) & (boxes[:, 2:] - boxes[:, :2] > 2).all(1)
    boxes, scores, labels = boxes[large], scores[large], labels[large]
    best = nms(torch.from_numpy(boxes).float(), torch.from_numpy(scores), 0.6)[:100].numpy()
    return boxes[best].astype(np.float32), scores[best], labels[best]


def truth(sequence: str) -> torch.Tensor:
    """The mask's box in every frame, (N, 4)."""
    files = sorted((DAVIS / "Annotations/480p" / sequence).glob("*.png"))
    masks = torch.stack([torch.from_numpy(np.array(Image.open(f).convert("L"))) for f in files]) > 0
    x1, y1, x2, y2 = masks_to_boxes(masks).T
    return torch.stack([x1, y1, x2 + 1, y2 + 1], 1)


def looks(frames: np.ndarray, boxes: torch.Tensor) -> torch.Tensor:
    """A coarse picture of what each box holds, (N, K, 48), for the distance in (1)."""
    pictures = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    return (
        roi_align(pictures, list(boxes), 4, sampling_ratio=4)
        .flatten(1)
        .unflatten(0, boxes.shape[:2])
    )


@pytest.mark.parametrize(
    ("sequence", "wanted"),
    [("blackswan", 0.8), ("car-shadow", 0.85), ("dog", 0.8), ("libby", 0.45)],
)
@pytest.mark.slow
def test_the_linker_follows_the_annotated_object(yolox, tmp_path, sequence, wanted):
    source = open_frames(DAVIS / "JPEGImages/480p" / sequence)
    frames = source.read(range(len(source)))
    with write_proposals(tmp_path / "p.h5", detector="YOLOX-nano") as store:
        found = [detect(yolox, frame) for frame in frames]
        boxes, scores, labels = zip(*found, strict=True)
        store.add(sequence, boxes, scores, labels, frame_size=source.size)

    window = ProposalStore.read(tmp_path / "p.h5").window(sequence, range(len(frames)), K)
    boxes, valid = torch.from_numpy(window.boxes), torch.from_numpy(window.valid)
    linked = link_tubes(boxes[None], looks(frames, boxes)[None], valid[None], key=len(frames) // 2)
    tubes = linked.boxes[0]
    objects = truth(sequence)
    overlaps = torch.stack([box_iou(tube, objects).diagonal() for tube in tubes])
    best = overlaps.mean(1).max().item()
    print(f"{sequence}: mean IoU of the best of {K} tubes over {len(frames)} frames {best:.3f}")
    assert best > wanted
