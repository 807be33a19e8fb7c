"""Do to real studies whatever can happen to one, and print what came of it.

    python tests/faults/fault_table.py [--only WORD ...] [--keep FOLDER]

One row a fault: what was done, what was expected, what happened. Exit code 1 if a study did not
survive one; ``test_faults.py`` runs the same cases.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.conftest import write_tiny_encoder
from tests.faults.cases import CASES, Case, Findings
from tests.faults.study_process import StudyPlace


def run_case(case: Case, folder: Path, encoder: Path) -> Findings:
    found = Findings()
    try:
        case.run(StudyPlace(folder=folder, encoder=encoder), found)
    except Exception as error:  # noqa: BLE001 - the table shows it, and the other faults are tried
        found.problems.append(f"{type(error).__name__}: {error}")
    return found


@contextmanager
def workplace(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        yield Path(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="in the names")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the studies here")
    given = parser.parse_args()
    table = Table("fault", "done", "expected", "happened", "s", "", show_lines=True)
    num_failed = 0
    with workplace(given.keep) as folder:
        encoder = folder / "tiny-encoder"
        encoder.mkdir(exist_ok=True)
        write_tiny_encoder(encoder)
        for number, case in enumerate(CASES):
            if not any(word in case.name for word in given.only):
                continue
            started = time.monotonic()
            found = run_case(case, folder / f"case-{number:02d}", encoder)
            seconds = time.monotonic() - started
            verdict = "not run" if found.not_run else "FAILED" if found.problems else "ok"
            num_failed += verdict == "FAILED"
            happened = [found.not_run] if found.not_run else [*found.happened, *found.problems]
            text = "\n".join(line for line in happened)
            table.add_row(case.name, case.done, case.expected, text, f"{seconds:.0f}", verdict)
            sys.stderr.write(f"{case.name}: {verdict} after {seconds:.0f} s {found.problems}\n")
    Console(width=150).print(table, markup=False)
    return 1 if num_failed else 0


if __name__ == "__main__":
    sys.exit(main())
