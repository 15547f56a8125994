"""The entry point: `audiomos-cache`, and `python -m audiomos_cache`."""

import sys

try:
    from audiomos_cache.interrupts import end_interrupted, interruptible
except KeyboardInterrupt:  # until then signals cannot be handled
    print("Interrupted.", file=sys.stderr)
    sys.exit(130)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; signals are handled before anything large is imported.

    Args:
        arguments: of the command line; None: those of the process.
    """
    try:
        with interruptible():
            from audiomos_cache.cli import main as command

            command(arguments)
    except KeyboardInterrupt:  # between the end of the command and that of the block
        end_interrupted()


if __name__ == "__main__":
    main()
