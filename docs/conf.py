"""The documentation site: ``python -m sphinx -W --keep-going -b html docs docs/_build/html``."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "xgen-flask-sessions"
author = "The xgen-flask-sessions authors"
project_copyright = author
version = release = version_of(project)

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "commands_reference",
    "errors_reference",
    "http_reference",
    "settings_reference",
    "signals_reference",
    "tables_reference",
]
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore_regex = [
    # Types of other projects, whose documentation is not linked, and type variables.
    (
        "py:.*",
        r"(flask|werkzeug|flask_admin|flask_login|flask_sqlalchemy|sqlalchemy|sa|os|collections|markupsafe|babel)\..*",
    ),
    (
        "py:.*",
        r"(Any|App|Flask|Admin|LoginManager|SQLAlchemy|Response|Iterable|Iterator|Mapping)",
    ),
    ("py:.*", r"(Collection|Callable|Sequence|timedelta|ClassVar|Permission|optional|_P|P|_F|F)"),
    ("py:.*", r"xgen_flask_sessions\.(roster|store|admin|cli|web|tokens)\..*"),
    ("py:.*", r"(datetime\.timedelta|typing\..*|ParamSpec|Kind|Self|~?_?F|.*\._[A-Z]+)"),
]
smartquotes = False  # settings and texts stay as they are typed

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "separated"
autoclass_content = "class"

html_theme = "furo"
html_title = f"xgen-flask-sessions {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
