"""Programs as users call them, in this process."""

from aamn.cli.main import run

SUBCOMMANDS = {  # the programs of tools/ -> what they are of the command
    "benchmark": "benchmark",
    "draw_attention": "attention",
    "eval_net": "evaluate",
    "extract_flow": "flow",
    "extract_proposals": "extract",
    "index_video": "index",
    "make_bundle": "bundle",
    "make_manifest": "manifest",
    "make_synthetic": "synthetic",
    "paper_size": "parameters",
    "reproduce_table": "table",
    "search_index": "search",
    "segment_video": "segment",
    "train_detector": "train-detector",
    "train_net": "train",
    "verify_dataset": "verify",
}


def call(program: str, *words: object) -> int:
    """Runs a program with these words; its exit code."""
    return run([SUBCOMMANDS[program], *map(str, words)])
