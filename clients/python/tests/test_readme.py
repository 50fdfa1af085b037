"""The examples of the README run, and print what they say."""

from pathlib import Path


def test_the_example_of_the_page_runs(run_readme, capsys):
    assert run_readme(Path(__file__).parents[3] / "docs" / "python.md") == 1
    begun, active = capsys.readouterr().out.splitlines()
    assert begun.endswith(" is creating") and "/v2/models/MyModelAPIService package:sha256:" in active


def test_the_examples_run(run_readme, capsys):
    assert run_readme(Path(__file__).parents[1] / "README.md") == 7
    printed = capsys.readouterr().out
    of_each = ["active http://", "\n2\n", "0 1.00\n", "finish 3 of 3\n", "done minilm-v2\n"]
    of_each += ["MyModelAPIService_Prod creating\n", " 404\n", "\nsmall\n"]
    assert [words for words in of_each if words not in printed] == [], printed
