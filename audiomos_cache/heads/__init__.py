"""Heads: everything that is trained on frozen features.

A head is put together from exchangeable parts: layers, temporal, pooling, text_audio, downstream, output, ranking.

    part_configs.py  the keys of the built-in parts, their defaults, and which kind each part is by default
    config.py        HeadConfig and TrainingConfig: a preset's content, and which keys go together
    parts.py         how a part is validated from its name or its keys; PartConfig, for parts of one's own
    presets.py       presets, YAML files and `--set` overrides, read into a HeadConfig
    model.py         build_head turns a HeadConfig into a Head, of the parts in layers, temporal, pooling,
                     text_audio and outputs
    losses.py        what the outputs are trained on; ranking.py: the term for the order of the clips

To add a pooling: a class in pooling.py, its keys in part_configs.py, its name in `registry.BUILT_IN`; or, without
changing the package, `@register("pooling", NAME)` in a module of your own (examples/extra_parts)."""
