"""The command line: a file per command, each of which parses, makes one library call, and prints.

Nothing here imports torch, h5py or transformers before a command runs: `--help` must answer at once.
Results go to stdout, progress and logs to stderr.
"""

import logging
import sys

import click

from audiomos_cache import __version__
from audiomos_cache.cli.cmd_bundle import bundle
from audiomos_cache.cli.cmd_demo import demo
from audiomos_cache.cli.cmd_evaluate import evaluate
from audiomos_cache.cli.cmd_extract import extract
from audiomos_cache.cli.cmd_fuse import fuse
from audiomos_cache.cli.cmd_import_upstream import import_upstream
from audiomos_cache.cli.cmd_inspect import inspect
from audiomos_cache.cli.cmd_merge import merge
from audiomos_cache.cli.cmd_predict import predict
from audiomos_cache.cli.cmd_score import score
from audiomos_cache.cli.cmd_split import split
from audiomos_cache.cli.cmd_submit import submit
from audiomos_cache.cli.cmd_train_head import train_head
from audiomos_cache.cli.cmd_verify import verify
from audiomos_cache.errors import AudiomosError
from audiomos_cache.registry import import_parts

INTERRUPTED = 130


class _Group(click.Group):
    """Turns our errors into one line and exit code 1, an interrupt into 130: the one place that does."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Interrupted. What was finished is kept.", err=True)
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            raise  # click ends quietly when the reader of a pipe has gone
        except (AudiomosError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            raise click.ClickException(str(error)) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Keep the order of the flow, not of the alphabet."""
        del ctx
        return list(self.commands)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="audiomos-cache")
@click.option("--debug", is_flag=True, help="Show a traceback when something fails.")
@click.option("--import", "modules", multiple=True, metavar="MODULE|FILE.py",
              help="Import a module that registers parts of your own (poolings, losses, encoders, fusions); repeat for "
              "several.")  # fmt: skip
def main(debug: bool, modules: tuple[str, ...]) -> None:
    """Predict mean opinion scores of generated music: MI (music impression), TA (text alignment).

    \b
    Extract the features of frozen encoders once, train small heads on them, fuse their predictions:
      audiomos-cache extract --data MusicEval-phase1 --cache cache/musiceval
      audiomos-cache train-head --cache cache/musiceval --head transformer-dist --out runs
      audiomos-cache fuse runs/* --method ridge --labels dev_mos_list.txt --apply-split eval --out fused

    \b
    Keep them as one folder, and score new music with it:
      audiomos-cache bundle runs/* --fusion fused --out model
      audiomos-cache score song.wav --prompt "slow piano, melancholic" --bundle model

    See it work on made-up music: audiomos-cache demo
    """
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, stream=sys.stderr, format="%(message)s")
    for noisy in ("httpx", "httpcore", "huggingface_hub", "transformers", "urllib3", "numba", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    for module in modules:
        import_parts(module)


_FEATURES = (extract, inspect, verify, merge)
_HEADS = (split, train_head, import_upstream, predict)
_NUMBERS = (fuse, evaluate, submit)
_MUSIC = (bundle, score)
for _command in (*_FEATURES, *_HEADS, *_NUMBERS, *_MUSIC, demo):
    main.add_command(_command)
