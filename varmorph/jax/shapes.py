"""Shapes of the arguments and results of the public functions, as types: a letter means one length within a signature.

N images of C channels and H x W pixels, a window of kh x kw, O output channels; nodes of a graph with F features, E edges, B signals on one
graph. Nothing is checked by these types alone: `varmorph.jax.arguments` checks, and `jaxtyping.jaxtyped` can.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray

__all__ = [
    "AnyShape",
    "ChannelFunctions",
    "ChannelLevels",
    "Channels",
    "ChannelsOut",
    "EdgeList",
    "Features",
    "GridWeights",
    "GridWeightsOfImage",
    "Image",
    "ImagePairs",
    "Images",
    "Key",
    "LateralEdges",
    "LevelPair",
    "LevelPairOfFeatures",
    "Marks",
    "MixedFeatures",
    "MixedOutput",
    "MixedOutputs",
    "MixingFunctions",
    "MixingMatrix",
    "Output",
    "Outputs",
    "PerChannel",
    "PerEdge",
    "PerFeature",
    "PerOutput",
    "SignalPairs",
    "Signals",
    "StructuringFunction",
    "Unknowns",
    "WideFeatures",
]

Images = Float[Array, "N C H W"]
Outputs = Float[Array, "N C H_out W_out"]  # H and W over the stride; less with padding "valid"
Marks = Bool[Array, "N C H W"]
ImagePairs = Float[Array, "N C 2 H W"]
GridWeights = Float[Array, "N #C 2 H W"]  # of the edges to the pixel below and to the one at the right
Image = Float[Array, "C H W"]  # a single one, as layers take it too
Output = Float[Array, "C H_out W_out"]
GridWeightsOfImage = Float[Array, "#C 2 H W"]

ChannelFunctions = Float[Array, "C kh kw"]
StructuringFunction = ChannelFunctions | Float[Array, "kh kw"]
Channels = Float[Array, "C"]
ChannelLevels = Float[Array, "2 C"]
PerChannel = Channels | Float[Array, ""] | float
LevelPair = ChannelLevels | Float[Array, "2"] | Sequence[float]

MixingFunctions = Float[Array, "O M kh kw"]  # M channels, of x and perhaps of -x, seen by O output channels
MixedOutputs = Float[Array, "N O H_out W_out"]
ChannelsOut = Float[Array, "O"]
PerOutput = ChannelsOut | Float[Array, ""] | float
WideFeatures = Float[Array, "*batch F"]
MixingMatrix = Float[Array, "O M"]
MixedFeatures = Float[Array, "*batch O"]
MixedOutput = Float[Array, "O H_out W_out"]

Features = Float[Array, "nodes F"] | Float[Array, "B nodes F"]
EdgeList = Integer[Array, "2 E"]  # source and target of each edge
LateralEdges = Integer[Array, "2 L"]
PerEdge = Float[Array, "E F"] | Float[Array, "E"] | Float[Array, ""] | float
PerFeature = Float[Array, "F"] | Float[Array, ""] | float
LevelPairOfFeatures = Float[Array, "2 F"] | Float[Array, "2"] | Sequence[float]
Signals = Float[Array, "#B F nodes"]
SignalPairs = Float[Array, "#B F 2 nodes"]

Unknowns = Float[Array, "N C *sites"]  # of an energy
AnyShape = Float[Array, "*shape"]
Key = PRNGKeyArray  # which no layer needs, and all take as those of Equinox do
