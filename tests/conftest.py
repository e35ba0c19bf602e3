"""Tiny models gain nothing from several threads, and the tests run side by side."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import torch

torch.set_num_threads(1)
cv2.setNumThreads(1)
