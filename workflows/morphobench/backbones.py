"""The fixed backbones of PyTorch, where plugins find them: `morphobench.training.torch.backbones`."""

from morphobench.training.torch.backbones import *  # noqa: F403
