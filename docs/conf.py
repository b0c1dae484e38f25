"""Sphinx settings; ``make docs``."""

# ruff: noqa: ANN001, ANN202

project = "vaelab"
copyright = "the vaelab authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib.bibtex"]
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"
html_theme = "furo"
exclude_patterns = ["_build"]
default_role = "code"
autodoc_typehints = "none"
napoleon_google_docstring = False
nitpicky = False
suppress_warnings = ["ref.python"]  # attributes of the same name in several records
napoleon_use_ivar = True


def _escape_shapes(app, what, name, obj, options, lines):
    """Let docstrings say (B, *event) without the star being read as emphasis."""
    lines[:] = [line.replace("(B, *", "(B, \\*").replace("(n, *", "(n, \\*") for line in lines]


def setup(app) -> None:
    """Register the hook."""
    app.connect("autodoc-process-docstring", _escape_shapes)
