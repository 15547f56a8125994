"""Fusion: blend the predictions of several members into one."""
