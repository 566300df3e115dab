# kafka-python 3 has no annotations, and the stubs that pyright carries are those of version 2, which is another one.
# Until it has its own, its names are taken as they come, unchecked. A module that is used is listed beside this file.
from typing import Any

def __getattr__(name: str) -> Any: ...
