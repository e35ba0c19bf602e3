"""Pages of the site that lie elsewhere in the repository, and the links to them and from them."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

OUTSIDE = {  # file, from the root -> page
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "proposals/FORMAT.md": "proposals_file.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages."""
    root = Path(config.config_file_path).parent
    for path, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(root / path)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Makes links that are right in the repository right in the site."""
    for path, page in OUTSIDE.items():
        markdown = markdown.replace(f"](../{path}", f"]({page}").replace(f"]({path}", f"]({page}")
    return markdown.replace("](docs/", "](")
