"""Other people's heads for frozen MuQ: what is published, how their files are read, and what they compute."""
