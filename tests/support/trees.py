"""Boosted trees written by hand, as LightGBM writes them."""


def tree(
    number: int = 0,
    *,
    leaves: int = 2,
    feature: str = "0",
    threshold: str = "0.5",
    decision: str = "2",
    left: str = "-1",
    right: str = "-2",
    values: str = "1 2",
) -> str:
    """The lines of a tree; two leaves, of 1 and 2, unless it is told otherwise."""
    return (
        f"Tree={number}\nnum_leaves={leaves}\nnum_cat=0\nsplit_feature={feature}\nsplit_gain=1\nthreshold={threshold}\n"
        f"decision_type={decision}\nleft_child={left}\nright_child={right}\nleaf_value={values}\nis_linear=0\n"
        "shrinkage=0.1\n\n\n"
    )


def forest(*trees: str, features: int = 3) -> str:
    """The whole text."""
    return (
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\n"
        f"max_feature_idx={features - 1}\nobjective=regression\n\n{''.join(trees)}end of trees\n\nparameters:\n"
    )
