"""Commands as a user runs them."""

from click.testing import CliRunner

from audiomos_cache.cli import main


def run(*arguments: object) -> str:
    """Run a command that must succeed, and give its stdout."""
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(*arguments: object) -> str:
    """Run a command that must end with our error, and give its one line."""
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    (line,) = result.stderr.splitlines()
    return line
