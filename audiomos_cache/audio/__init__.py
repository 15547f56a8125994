"""Audio: from a file or an array to mono samples at the rate that an encoder takes."""
