"""Test-time scaling of small language models: the package behind the notebooks."""

import os
from importlib import import_module

# Modules of one's own that register methods, PRM families, engines or tasks; the environment reaches kernels and workers too.
for _plugin in filter(None, os.environ.get("TTS_PLUGINS", "").split(",")):
    import_module(_plugin)
