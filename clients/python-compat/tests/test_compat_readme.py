"""The examples of the README run, and print what they say."""

from pathlib import Path


def test_the_examples_run(run_readme, capsys):
    assert run_readme(Path(__file__).parents[1] / "README.md") == 2
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("200 ") and second == "{'reason': 'No longer needed'}"
    assert third == "404 Deployment task with ID `123` is not found"
