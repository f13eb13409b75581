"""Parameters that the graph of a function does not show: those of code that differentiates anew inside of a backward pass.

A re-entrant checkpoint is a node that knows its inputs alone. Its backward pass computes the function again and calls
`backward()` on the result, which adds to the `grad` of whatever the function closes over. An implicit derivative takes several
products with the Jacobian on its way: each would add to these gradients, and a graph without other leaves has none at all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Graph"]


class Graph:
    """The nodes behind a tensor, and the leaves that they end in."""

    def __init__(self, image: Tensor) -> None:
        waiting: list[Any] = [image.grad_fn]
        self.nodes: set[Any] = set()
        while waiting:
            node = waiting.pop()
            if node is not None and node not in self.nodes:
                self.nodes.add(node)
                waiting += [following for following, _ in node.next_functions]
        self.leaves = [node.variable for node in self.nodes if hasattr(node, "variable")]
        if image.is_leaf and image.requires_grad:
            self.leaves.append(image)

    def shows(self, tensor: Tensor) -> bool:
        """Tell whether a tensor that requires gradients is part of it."""
        if tensor.grad_fn is not None:
            return tensor.grad_fn in self.nodes
        return any(tensor is leaf for leaf in self.leaves)

    def refuse_hidden_parameters(self, image: Tensor, z: Tensor) -> None:
        """Require that the backward pass from the image to z differentiates nothing that the graph does not show.

        Only a `torch.autograd.Function` can do so; those of this library do not.
        """
        classes = {type(node)._forward_cls for node in self.nodes if hasattr(type(node), "_forward_cls")}
        if all(cls.__module__.startswith("varmorph.") for cls in classes):
            return
        try:
            with _Watched(self):
                torch.autograd.grad(image, z, torch.zeros_like(image), retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            known = isinstance(error, _HiddenParameterError) or "use_reentrant" in str(error)  # what PyTorch says of it
            if not known:
                raise
            names = ", ".join(sorted(cls.__name__ for cls in classes))
            raise RuntimeError(
                f"an equilibrium cannot be differentiated through a function that differentiates anew in its backward pass"
                f" ({names}), as a re-entrant checkpoint does: the gradients of what it closes over would be lost or"
                " counted several times; use torch.utils.checkpoint.checkpoint(..., use_reentrant=False)"
            ) from error


class _HiddenParameterError(RuntimeError):
    """A backward pass differentiates what its graph does not show."""


class _Watched(TorchDispatchMode):
    """Stops where a tensor that requires gradients, and is neither shown by a graph nor made within the block, is computed with."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.made: list[Tensor] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.is_grad_enabled():
            for operand in tree_leaves((args, kwargs)):
                if isinstance(operand, Tensor) and operand.requires_grad and not self._is_known(operand):
                    raise _HiddenParameterError(f"a parameter of shape {tuple(operand.shape)} is hidden")
        result = function(*args, **(kwargs or {}))
        self.made += [tensor for tensor in tree_leaves(result) if isinstance(tensor, Tensor)]
        return result

    def _is_known(self, tensor: Tensor) -> bool:
        return self.graph.shows(tensor) or any(tensor is other for other in self.made)
