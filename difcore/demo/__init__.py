"""What stands in for data that cannot be shipped: small decoders, GANs and ProGANs, weights, training."""

from difcore.demo.decoders import SOURCE_STYLE, ChildPlan, GeneratorPlan
from difcore.demo.gans import GanPlan
from difcore.demo.generators import (
    CHILDREN,
    DECODERS,
    GANS,
    PROGAN_FILES,
    PROGANS,
    SHIPPED,
    fakes_of,
    load_generator,
    read_facts,
    real_style,
    weights_path,
)
from difcore.demo.progan import ProGanPlan
from difcore.demo.training import train

__all__ = [
    "CHILDREN", "DECODERS", "GANS", "PROGANS", "PROGAN_FILES", "SHIPPED", "SOURCE_STYLE", "ChildPlan", "GanPlan",
    "GeneratorPlan", "ProGanPlan", "fakes_of", "load_generator", "read_facts", "real_style", "train", "weights_path",
]  # fmt: skip
