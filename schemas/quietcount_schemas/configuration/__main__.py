"""`python -m quietcount_schemas.configuration` writes the table of keys for the page that explains them."""

from __future__ import annotations

import sys

from quietcount_schemas.configuration.keys import markdown

sys.stdout.write(markdown())
