"""Training heads from cached features, and using trained ones.

`train_head.train_heads` trains runs; `loop.train` is the training itself; `run.Run` opens what came of it.
"""
