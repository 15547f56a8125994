"""The command line: a file per command, each of which parses, makes one library call, and prints.

Nothing here imports torch, h5py or transformers before a command runs: `--help` must answer at once.
Results go to stdout, progress and logs to stderr.
"""

import errno
import logging
from typing import Any

import click

from audiomos_cache._version import __version__
from audiomos_cache.cli.cmd_bundle import bundle
from audiomos_cache.cli.cmd_demo import demo
from audiomos_cache.cli.cmd_evaluate import evaluate
from audiomos_cache.cli.cmd_extract import extract
from audiomos_cache.cli.cmd_fuse import fuse
from audiomos_cache.cli.cmd_import_upstream import import_upstream
from audiomos_cache.cli.cmd_info import info
from audiomos_cache.cli.cmd_merge import merge
from audiomos_cache.cli.cmd_predict import predict
from audiomos_cache.cli.cmd_score import score
from audiomos_cache.cli.cmd_split import split
from audiomos_cache.cli.cmd_submit import submit
from audiomos_cache.cli.cmd_train_head import train_head
from audiomos_cache.cli.cmd_verify import verify
from audiomos_cache.cli.options import wrapped_error
from audiomos_cache.cli.progress_bar import say
from audiomos_cache.cli.streams import checked_streams
from audiomos_cache.errors import AudiomosError, reason_of
from audiomos_cache.interrupts import one_line
from audiomos_cache.profiling import Profile
from audiomos_cache.registry import import_parts


class _Stderr(logging.Handler):
    """Writes to stderr, above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def log_to_stderr(level: int) -> None:
    """Write the log to stderr, above progress bars; of other libraries only their errors."""
    logging.basicConfig(level=level, handlers=[_Stderr()], format="%(message)s")
    for noisy in (
        "httpx",
        "httpx2",
        "httpcore",
        "httpcore2",
        "huggingface_hub",
        "transformers",
        "urllib3",
        "numba",
        "matplotlib",
    ):
        logging.getLogger(noisy).setLevel(logging.ERROR)


class _Group(click.Group):
    """Turns our errors into one line and exit code 1, and interrupts into the line and the code of `interrupts.py`."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Parse."""
        with one_line():
            return super().make_context(*arguments, **options)

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Parse and run."""
        with checked_streams():
            return super().main(*arguments, **options)

    def invoke(self, ctx: click.Context) -> object:
        """Run."""
        with one_line():
            try:
                return super().invoke(ctx)
            except BrokenPipeError:
                raise  # click ends quietly when the reader of a pipe has gone
            except (AudiomosError, OSError) as error:
                on_stdout = isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None
                if on_stdout or ctx.params.get("debug"):
                    raise
                named = AudiomosError(reason_of(error)) if isinstance(error, OSError) else error
                raise click.ClickException(wrapped_error(named)) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the first sentence of each command's help, uncut."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(limit=200)) for name, each in self.commands.items()])

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Keep the order of the flow, not of the alphabet."""
        del ctx
        return list(self.commands)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="audiomos-cache")
@click.option("--debug", is_flag=True, help="Show a traceback when something fails.")
@click.option("--import", "modules", multiple=True, metavar="MODULE|FILE.py",
              help="Import a module that registers parts of your own (poolings, losses, encoders, fusions); repeat it "
              "for several.")  # fmt: skip
@click.option(
    "--profile",
    "profiled",
    is_flag=True,
    help="Print the seconds of each stage of extract or train-head.",
)
@click.pass_context
def main(ctx: click.Context, debug: bool, profiled: bool, modules: tuple[str, ...]) -> None:
    """Predict mean opinion scores of generated music: MI (music impression), TA (text alignment).

    \b
    Score music by a published predictor, without labels or training:
      audiomos-cache score song.wav

    \b
    Extract the features of frozen encoders once, train heads on them, fuse:
      audiomos-cache extract --data MusicEval-phase1 --cache cache/musiceval
      audiomos-cache train-head --cache cache/musiceval --head transformer-dist
      audiomos-cache fuse runs --labels dev_mos_list.txt --out fused

    \b
    Keep them as one folder, and score new music with it:
      audiomos-cache bundle runs --fusion fused --out model
      audiomos-cache score song.wav --prompt "slow, sad piano" --bundle model

    \b
    Run it all on made-up music:
      audiomos-cache demo
    """
    log_to_stderr(logging.DEBUG if debug else logging.INFO)
    ctx.obj = Profile(on=profiled)
    for module in modules:
        import_parts(module)


@main.result_callback()
@click.pass_obj
def _show_profile(profile: Profile, /, _result: object, **_options: object) -> None:
    """Print the seconds of each stage, if --profile was given."""
    if profile.stages:
        for line in profile.lines():
            click.echo(line, err=True)


_FEATURES = (extract, info, verify, merge)
_HEADS = (split, train_head, import_upstream, predict)
_NUMBERS = (fuse, evaluate, submit)
_MUSIC = (bundle, score)
for _command in (*_FEATURES, *_HEADS, *_NUMBERS, *_MUSIC, demo):
    main.add_command(_command)
