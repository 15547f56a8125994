"""Boosted trees written by hand, as LightGBM writes them."""


def tree(number=0, *, leaves=2, feature="0", threshold="0.5", decision="2", left="-1", right="-2", values="1 2"):
    """The lines of a tree; two leaves, of 1 and 2, unless it is told otherwise."""
    return (
        f"Tree={number}\nnum_leaves={leaves}\nnum_cat=0\nsplit_feature={feature}\nsplit_gain=1\nthreshold={threshold}\n"
        f"decision_type={decision}\nleft_child={left}\nright_child={right}\nleaf_value={values}\nis_linear=0\n"
        "shrinkage=0.1\n\n\n"
    )


def forest(*trees, features=3):
    """The whole text."""
    return (
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\n"
        f"max_feature_idx={features - 1}\nobjective=regression\n\n{''.join(trees)}end of trees\n\nparameters:\n"
    )
