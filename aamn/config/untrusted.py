"""What a checkpoint's own configuration may not decide where the checkpoint is used: it may come
from anybody. Files that it names are opened, written or unpickled only if the user names them."""

from __future__ import annotations

import logging
from dataclasses import replace

from aamn.config.schema import Config, FlowConfig
from aamn.config.zeroshot import PublishedConfig, ZeroShotConfig

log = logging.getLogger("aamn")

PUBLISHED = ("", "small", "large")  # RAFT's weights that are no path


def restricted(config: Config, source: str) -> Config:
    """The configuration without leave to unpickle, without a folder to keep features in, without
    the path of weights for flow, and without the places of public parts. `words.vectors` stays:
    vectors are read as numbers."""
    return replace(
        config,
        words=replace(config.words, allow_pickle=False),
        flow=_flow(config.flow, source),
        gavrilyuk=replace(config.gavrilyuk, backbone_cache=""),
        acga=replace(config.acga, backbone_cache=""),
        zeroshot=_public_parts(config.zeroshot),
    )


def _public_parts(config: ZeroShotConfig) -> ZeroShotConfig:
    """Names and checksums of the parts stay, so that they are the ones of the training; where they
    come from is the user's choice."""
    usual = PublishedConfig()
    published = replace(config.published, folder="", hub="", detector_url=usual.detector_url)
    return replace(config, published=published)


def _flow(flow: FlowConfig, source: str) -> FlowConfig:
    if flow.method != "raft" or flow.weights in PUBLISHED:
        return flow
    log.warning(
        "%s names the weights %s for its flow, which are not opened unless you name them: "
        "--set flow.weights=%s",
        source,
        flow.weights,
        flow.weights,
    )
    return replace(flow, weights="")
