"""CPU kernels of the regularised dilation: one image plane solved at a time, its window and its grid known."""
