"""Launcher for a checkout: `python cli.py extract ...` is `audiomos-cache extract ...`."""

from audiomos_cache.__main__ import main

if __name__ == "__main__":
    main()
