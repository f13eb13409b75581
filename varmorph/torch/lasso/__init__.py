"""The lasso as a layer: sparse codes, differentiated on their support."""

from varmorph.torch.lasso.lasso import Lasso, sparse_code

__all__ = ["Lasso", "sparse_code"]
