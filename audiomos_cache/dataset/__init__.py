"""The dataset: MusicEval folders, manifests and lists become clips, labels and ratings."""
