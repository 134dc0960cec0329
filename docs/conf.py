"""Sphinx: the documentation as a site.  See CONTRIBUTING.md for the command.

The source folder is the repository itself, so that pages in docs/, the READMEs of the examples and
CONTRIBUTING.md link to each other by the same relative paths on the site as in the files.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "FHI_AL"
release = version = _PROJECT["version"]
project_copyright = "2026 FHI_AL developers"

root_doc = "docs/index"
include_patterns = ["docs/**.md", "examples/*/README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# Anchors of headings as GitHub has them.
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]

# Types stand in the docstrings, with shapes and units.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_google_docstring = False
napoleon_use_rtype = False
# A name of ours that is not found fails the build.  Not looked for: words for types ("(n_atoms,
# 3)", "list or None"), other libraries (no network here), and what is behind the public API.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:class", r"(?!fhi_al\.).*"),
    (r"py:class", r"fhi_al\.(settings|app|active_learning)\..*"),
    (r"py:class", r"fhi_al\.core\.(convergence|reported_errors)\..*"),
    (r"py:class", r"fhi_al\.engines\.(inputs|aims_input)\..*"),
]

html_theme = "furo"
html_title = f"FHI_AL {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_extra_path = ["site"]  # index.html, which leads to docs/index.html
html_copy_source = False
html_show_sourcelink = False
