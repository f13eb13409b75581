"""Shapes of the arguments and results of the public functions, as types: a letter means one length within a signature.

N images of C channels and H x W pixels, a window of kh x kw, O output channels; nodes of a graph with F features, E edges, B signals on one
graph. Nothing is checked by these types alone: `varmorph.torch.arguments` checks, and `jaxtyping.jaxtyped` can.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Bool, Float, Integer
from torch import Tensor

__all__ = [
    "AnyShape",
    "ChannelFunctions",
    "Channels",
    "ChannelsOut",
    "Dictionary",
    "EdgeList",
    "Features",
    "GridWeights",
    "ImagePairs",
    "Images",
    "LateralEdges",
    "LevelPair",
    "LevelPairOfFeatures",
    "Marks",
    "MixedFeatures",
    "MixedOutputs",
    "MixingFunctions",
    "MixingMatrix",
    "Outputs",
    "PerAtom",
    "PerChannel",
    "PerEdge",
    "PerFeature",
    "PerOutput",
    "Samples",
    "SignalPairs",
    "Signals",
    "StructuringFunction",
    "Unknowns",
    "WideFeatures",
]

Images = Float[Tensor, "N C H W"]
Outputs = Float[Tensor, "N C H_out W_out"]  # H and W over the stride; less with padding "valid"
Marks = Bool[Tensor, "N C H W"]
ImagePairs = Float[Tensor, "N C 2 H W"]
GridWeights = Float[Tensor, "N #C 2 H W"]  # of the edges to the pixel below and to the one at the right

ChannelFunctions = Float[Tensor, "C kh kw"]
StructuringFunction = ChannelFunctions | Float[Tensor, "kh kw"]
Channels = Float[Tensor, "C"]
PerChannel = Channels | Float[Tensor, ""] | float
LevelPair = Float[Tensor, "2 C"] | Float[Tensor, "2"] | Sequence[float]

MixingFunctions = Float[Tensor, "O M kh kw"]  # M channels, of x and perhaps of -x, seen by O output channels
MixedOutputs = Float[Tensor, "N O H_out W_out"]
ChannelsOut = Float[Tensor, "O"]
PerOutput = ChannelsOut | Float[Tensor, ""] | float
WideFeatures = Float[Tensor, "*batch F"]
MixingMatrix = Float[Tensor, "O M"]
MixedFeatures = Float[Tensor, "*batch O"]

Features = Float[Tensor, "nodes F"] | Float[Tensor, "B nodes F"]
EdgeList = Integer[Tensor, "2 E"]  # source and target of each edge
LateralEdges = Integer[Tensor, "2 L"]
PerEdge = Float[Tensor, "E F"] | Float[Tensor, "E"] | Float[Tensor, ""] | float
PerFeature = Float[Tensor, "F"] | Float[Tensor, ""] | float
LevelPairOfFeatures = Float[Tensor, "2 F"] | Float[Tensor, "2"] | Sequence[float]
Signals = Float[Tensor, "#B F nodes"]
SignalPairs = Float[Tensor, "#B F 2 nodes"]

Unknowns = Float[Tensor, "N C *sites"]  # of an energy
AnyShape = Float[Tensor, "*shape"]

Samples = Float[Tensor, "N n"]
Dictionary = Float[Tensor, "n m"]
PerAtom = Float[Tensor, "m"] | Float[Tensor, ""] | float
