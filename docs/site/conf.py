"""Configuration of the static site; ``docs/site/build.py`` lays its sources out and builds it."""

from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from tomllib import loads

from latex2mathml.converter import convert

ROOT = Path(__file__).resolve().parents[2]

project, author = "Test-time scaling with small models", "the authors of tts-notebooks"
release = loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_nb", "sphinx.ext.apidoc", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]

html_theme = "furo"
html_title = project
html_copy_source = html_show_copyright = html_show_sphinx = False
html_static_path, html_css_files = ["site.css"], ["site.css"]
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath"]
myst_dmath_double_inline = True  # as GitHub and JupyterLab read it
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # the default loads them from a CDN

apidoc_modules = [{"path": ROOT / "tts", "destination": "api", "separate_modules": True, "module_first": True, "max_depth": 1}]
# Names that a package re-exports stand with the module that defines them; scipy's function says that it is of no module.
autodoc_default_options = {"members": True, "undoc-members": True, "member-order": "bysource", "ignore-module-all": True}
autodoc_default_options["exclude-members"] = "mannwhitneyu"
autodoc_preserve_defaults = True


def setup(app):
    """Formulas as MathML, which browsers draw by themselves: MathJax would have to be fetched.

    The package is imported here, once for all processes that read pages: autodoc's own import, which prefers type stubs, fails for some.
    """
    from docutils.nodes import SkipNode

    import tts

    for module in walk_packages(tts.__path__, "tts."):
        import_module(module.name)

    def visit(translator, node):
        translator.body.append(convert(node.astext(), display="block" if node.tagname == "math_block" else "inline"))
        raise SkipNode

    app.add_html_math_renderer("mathml", inline_renderers=(visit, None), block_renderers=(visit, None))
