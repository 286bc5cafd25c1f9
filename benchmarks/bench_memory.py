"""Peak memory of a capture run against the number of prompts, at one batch size.

python benchmarks/bench_memory.py --json OUT.json
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import arguments, finish

# The high-water mark of the process is no use: loading the model needs more than capturing.
CHILD = """
import json, sys, threading
from pathlib import Path
import psutil
from babelgate.capture import capture
from babelgate.models import load_model
from babelgate.types import Prompt
model, n, tokens, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
loaded = load_model(model)
prompts = [Prompt(str(i), "en", f"Tell me what day it was {i} days ago.", "harmless", "val")
           for i in range(n)]
process, done, peak = psutil.Process(), threading.Event(), [0]
def watch():
    while not done.wait(0.005):
        peak[0] = max(peak[0], process.memory_info().rss)
before = process.memory_info().rss
thread = threading.Thread(target=watch)
thread.start()
capture(loaded, prompts, Path(folder), batch_tokens=tokens)
done.set()
thread.join()
print(json.dumps({"before": before, "after": max(peak[0], before)}))
"""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--counts", default="64,512,2048")
    parser.add_argument("--sizes", default="512,4096")
    parser.set_defaults(model="smollm2")
    options = parser.parse_args()
    rows = []
    for size in map(int, options.sizes.split(",")):
        for n in map(int, options.counts.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                made = subprocess.run(
                    [sys.executable, "-c", CHILD, options.model, str(n), str(size), folder],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                stored = sum(f.stat().st_size for f in Path(folder).iterdir())
            peak = json.loads(made.stdout.splitlines()[-1])
            rows.append(
                {"batch tokens": size, "prompts": n, "stored MiB": stored / 2**20,
                 "peak above the model MiB": (peak["after"] - peak["before"]) / 2**20}
            )  # fmt: skip
    finish(f"Peak memory of capture, {options.model}", rows, options.json)


if __name__ == "__main__":
    main()
