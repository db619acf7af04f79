"""`python -m loadtests.bench [NAME …]`: run benchmarks, print their figures, keep them under bench-results/."""

import importlib
import json
import sys
from pathlib import Path
from typing import Final

BENCHES: Final[dict[str, str]] = {
    "api": "loadtests.bench.api",
    "edge": "loadtests.bench.edge",
    "child": "loadtests.bench.child",
    "cold": "loadtests.bench.cold",
    "images": "loadtests.bench.images",
    "line": "loadtests.bench.line",
    "previews": "loadtests.bench.previews",
    "spine": "loadtests.bench.spine",
    "masters": "loadtests.bench.masters",
    "orders": "loadtests.bench.orders",
    "others": "loadtests.bench.others",
    "stack": "loadtests.bench.stack",
    "webhooks": "loadtests.bench.webhooks",
}
RESULTS: Final = Path("bench-results")


def main(names: list[str]) -> int:
    """Run the named ones, or all; each module's `run()` gives a dict."""
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    RESULTS.mkdir(exist_ok=True)
    for name in names or BENCHES:
        print(f"{name}: running", file=sys.stderr)
        figures = json.dumps(importlib.import_module(BENCHES[name]).run(), indent=1)
        (RESULTS / f"{name}.json").write_text(figures)
        print(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
