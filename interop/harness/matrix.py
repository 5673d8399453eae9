"""The cells: each is a function that raises where it fails; the matrix runs them, keeps what came out and prints it."""

import time
import traceback
from concurrent.futures import ThreadPoolExecutor


class Skip(Exception):
    """The cell cannot be tried on this machine; the text says what is missing."""


class Matrix:
    def __init__(self, only=(), in_our_place=None):
        self.only = only
        self.in_our_place = in_our_place
        self.tables = {}
        self.columns = {}
        self.failures = []
        self.skips = []

    def cell(self, table, row, column, test, required=True):
        """Runs `test()` and writes down how it went. A cell that is not required may fail: it shows a difference."""
        started = time.monotonic()
        name = f"{table}: {row}: {column}"
        try:
            remark = test()
            outcome = "yes"
        except Skip as skip:
            remark, outcome = str(skip), "-"
            self.skips.append(f"{name}: {skip}")
        except Exception as error:  # whatever a foreign program does wrong is an outcome, not an end of the run
            remark, outcome = f"{type(error).__name__}: {error}", "NO" if required else "no"
            where = traceback.format_exc() if not str(error) else ""
            (self.failures if required else self.skips).append(f"{name}: {remark} {where}")
        seconds = time.monotonic() - started
        self.tables.setdefault(table, {}).setdefault(row, {})[column] = (outcome, seconds)
        print(f"  {outcome:3} {seconds:6.1f} s  {name}{': ' + remark.splitlines()[0] if remark else ''}", flush=True)
        return outcome == "yes"

    def together(self, jobs):
        """Runs groups of cells beside each other; one that breaks down outside its cells is a failure."""
        with ThreadPoolExecutor(max_workers=len(jobs) or 1) as pool:
            for name, future in [(name, pool.submit(job)) for name, job in jobs]:
                try:
                    future.result()
                except Skip as skip:
                    self.skips.append(f"{name}: {skip}")
                    print(f"  -             {name}: {skip}", flush=True)
                except Exception as error:
                    self.failures.append(f"{name}: {error}\n{traceback.format_exc()}")
                    print(f"  NO            {name}: {error}", flush=True)

    def order(self, table, *columns):
        """The order in which these columns are shown, however they come."""
        self.columns[table] = columns

    def wanted(self, group):
        return not self.only or group in self.only

    def show(self):
        for table, rows in sorted(self.tables.items()):
            columns = [*self.columns.get(table, [])]
            for cells in rows.values():
                columns += [column for column in cells if column not in columns]
            width = max(len(row) for row in rows) + 2
            print(f"\n{table}\n{'':{width}}" + "  ".join(columns))
            for row, cells in sorted(rows.items()):
                marks = [f"{cells.get(column, ('', 0))[0]:{len(column)}}" for column in columns]
                print(f"{row:{width}}" + "  ".join(marks))
        for skip in self.skips:
            print(f"left out or different: {skip}")
        for failure in self.failures:
            print(f"FAILED {failure}")
