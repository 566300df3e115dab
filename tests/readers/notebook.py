"""Runs a notebook's code as Jupyter does: cell by cell in one namespace, and shows what a cell ends with.

`python notebook.py NOTEBOOK FOLDER` keeps the pictures in the folder.
"""

from __future__ import annotations

import ast
import importlib
import json
import sys
from pathlib import Path
from typing import Any


def main(notebook: Path, pictures: Path) -> None:
    plt: Any = importlib.import_module("matplotlib.pyplot")  # it is among the readers
    namespace: dict[str, Any] = {}
    number = 0
    for place, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"], 1):
        if cell["cell_type"] != "code":
            continue
        name = f"{notebook.name}, cell {place}"
        tree = ast.parse("".join(cell["source"]), name)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), namespace)  # noqa: S102  # our own words, run as a reader would
        if isinstance(last, ast.Expr):
            ended = compile(ast.Expression(last.value), name, "eval")
            shown = eval(ended, namespace)  # noqa: S307  # and this, too
            if shown is not None:
                print(shown)
        for figure in plt.get_fignums():
            number += 1
            plt.figure(figure).savefig(pictures / f"{number}.png")
            plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
