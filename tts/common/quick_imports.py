"""Lighter imports: to be imported before nbformat, nbconvert and papermill, which then take a third of their time."""

import sys

# jsonschema builds 39 parsers while it is imported, for kinds of addresses that no notebook's schema asks for; it does without them
# where their package is missing.
sys.modules.setdefault("rfc3987_syntax", None)
