from __future__ import annotations

from components.report.step import write_report


def test_smoke(arguments):
    outputs, folder = write_report(**arguments)
    print(folder)
    print(outputs.results)
