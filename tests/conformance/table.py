"""Prints what the conformance kits found: table.py KIT_BUGS REPORTS_03 RUN_10.json...

Exit code 1 when something failed that KIT_BUGS does not name, when KIT_BUGS names what did not fail, or when a
report is missing.
"""

import json
import sys
from collections import Counter
from pathlib import Path

LEVELS = ("MUST", "SHOULD", "MAY")
CATEGORIES = ("mandatory", "capabilities", "transport-equivalence", "quality", "features")
TRANSPORTS = ("jsonrpc", "rest")


def read_10(path: Path) -> tuple[list[tuple[str, Counter]], dict[str, str]]:
    """Rows of a run of the 1.0 kit, one for each level, and what failed with the first reason."""
    report = json.loads(path.read_text(encoding="utf-8"))
    rows, failed = [], {}
    for level in LEVELS:
        counts: Counter = Counter()
        for name, found in report["per_requirement"].items():
            if found["level"] == level:
                counts[found["status"].lower()] += 1
                if found["status"] == "FAIL":
                    failed[f"1.0-{path.stem} {name}"] = (found["errors"] or ["no reason given"])[0]
        row = Counter(passed=counts["pass"], failed=counts["fail"], skipped=counts["skipped"])
        row["not tested"] = counts["not tested"]
        rows.append((f"1.0 {level} {path.stem}", row))
    return rows, failed


def read_03(folder: Path) -> tuple[list[tuple[str, Counter]], dict[str, str]]:
    """Rows of the 0.3 kit, one for each category and transport, and what failed."""
    rows, failed = [], {}
    for category in CATEGORIES:
        # Equivalence compares the transports, so it runs once.
        runs = [""] if category == "transport-equivalence" else [f"_{one}" for one in TRANSPORTS]
        for run in runs:
            report = json.loads((folder / f"{category}{run}_results.json").read_text(encoding="utf-8"))
            row: Counter = Counter()
            transport = run.lstrip("_") or "both"
            for test in report["tests"]:
                outcome = test["outcome"]
                # Expected to fail, by the kit: no verdict about the agent.
                row["skipped" if outcome.startswith("x") else "failed" if outcome == "error" else outcome] += 1
                if outcome in ("failed", "error"):
                    crash = next((test[when]["crash"]["message"] for when in ("call", "setup", "teardown")
                                  if "crash" in test.get(when, {})), "")
                    failed[f"0.3-{transport} {test['nodeid']}"] = crash.splitlines()[0] if crash else ""
            rows.append((f"0.3 {category} {transport}", row))
    return rows, failed


def main() -> int:
    bugs, folder, *runs = (Path(name) for name in sys.argv[1:])
    rows, failed = [], {}
    for read, path in (*((read_10, run) for run in runs), (read_03, folder)):
        more_rows, more_failed = read(path)
        rows += more_rows
        failed |= more_failed
    known = {}
    for line in bugs.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            kit, name, why = line.split(maxsplit=2)
            known[f"{kit} {name}"] = why
    columns = ("passed", "failed", "skipped", "not tested")
    print(f"{'':34}" + "".join(f"{name:>12}" for name in columns))
    for name, row in rows:
        print(f"{name:34}" + "".join(f"{row[column]:>12}" for column in columns))
    ours = [name for name in failed if name not in known]
    for name in failed:
        print(f"kit's bug: {name}: {known[name]}" if name in known else f"FAILED: {name}: {failed[name]}")
    gone = [name for name in known if name not in failed]
    for name in gone:
        print(f"FAILED: tests/conformance/kit-bugs names {name}, which did not fail")
    return 1 if ours or gone else 0


if __name__ == "__main__":
    sys.exit(main())
