"""Sphinx settings; ``make docs``."""

# ruff: noqa: ANN001, ANN202

import shutil
from pathlib import Path

project = "vaelab"
copyright = "the vaelab contributors"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "sphinxcontrib.bibtex",
]
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"
html_theme = "furo"
html_title = "vaelab"
html_css_files = ["doors.css"]
html_static_path = ["_static"]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "code"
autodoc_typehints = "none"
autosummary_imported_members = False
napoleon_google_docstring = False
nitpicky = False
suppress_warnings = ["ref.python"]  # attributes of the same name in several records
napoleon_use_ivar = True
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

shutil.rmtree(Path(__file__).with_name("api"), ignore_errors=True)  # pages of objects that are no more


def _escape_shapes(app, what, name, obj, options, lines):
    """Let docstrings say (B, *event) without the star being read as emphasis."""
    lines[:] = [line.replace("(B, *", "(B, \\*").replace("(n, *", "(n, \\*") for line in lines]


def _list_options(app, what, name, obj, options, lines):
    """Show the options of a spec, whose descriptions stand in its fields, as parameters."""
    if what != "class" or not hasattr(obj, "model_fields"):
        return
    lines += [""]
    for option, field in obj.model_fields.items():
        default = "" if field.is_required() else f" (default: ``{field.get_default(call_default_factory=True)!r}``)"
        lines += [f":param {option}: {field.description or ''}{default}".replace("*", "\\*")]


def setup(app) -> None:
    """Register the hooks."""
    app.connect("autodoc-process-docstring", _escape_shapes)
    app.connect("autodoc-process-docstring", _list_options, priority=600)
