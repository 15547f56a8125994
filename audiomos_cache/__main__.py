"""`python -m audiomos_cache` is `audiomos-cache`."""

from audiomos_cache.cli import main

if __name__ == "__main__":
    main()
