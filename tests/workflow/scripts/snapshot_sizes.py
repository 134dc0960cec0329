"""Run active learning from Python; print journal and newest snapshot in bytes at every check."""

import json
import sys
from pathlib import Path

from fhi_al import ActiveLearningProcedure, open_run

folder = Path(sys.argv[1])
sizes: list[tuple[int, int]] = []


def measure(entry: dict[str, object]) -> None:
    if entry["kind"] == "check" and started:
        newest = sorted((folder / "restart").glob("snapshot-*"))[-1]
        manifest = json.loads((newest / "manifest.json").read_text())
        content = sum(file["bytes"] for file in manifest["files"].values())
        sizes.append(((folder / "restart" / "journal.jsonl").stat().st_size, content))


started = False
with open_run(folder) as run:
    run.report.journal.listen(measure)
    started = True
    ActiveLearningProcedure(run).run()
print("SIZES", json.dumps(sizes))
