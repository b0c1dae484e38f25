"""Networks: ``(input, c=None)`` → raw numbers of the width they are told.

Encoders take ``(event_shape, out_features)``, decoders ``(latent_dim, out_shape)``; everything else is an option. They
know nothing of what their output means and apply no link to it.
"""

from vaelab.nets.arelbo import ARELBODecoder, ARELBOEncoder
from vaelab.nets.conditioning import ConditionEncoder, ConditionReader, Embedded, Gated
from vaelab.nets.infogan import InfoGANAutoencoder, InfoGANDecoder, InfoGANEncoder
from vaelab.nets.mlp import MLP, MLPDecoder, MLPEncoder
from vaelab.nets.network import Decoder, Encoder
from vaelab.nets.rae import RAEDecoder, RAEEncoder
from vaelab.nets.recurrent import LSTMDecoder, LSTMEncoder, SequenceReader, SharedPrior
from vaelab.nets.residual import ResidualDecoder, ResidualEncoder
from vaelab.nets.resnet import ResNetDecoder, ResNetEncoder
from vaelab.nets.tables import TableReader, table_width
from vaelab.nets.wae import WAEDecoder, WAEEncoder

__all__ = [
    "MLP",
    "ARELBODecoder",
    "ARELBOEncoder",
    "ConditionEncoder",
    "ConditionReader",
    "Decoder",
    "Embedded",
    "Encoder",
    "Gated",
    "InfoGANAutoencoder",
    "InfoGANDecoder",
    "InfoGANEncoder",
    "LSTMDecoder",
    "LSTMEncoder",
    "MLPDecoder",
    "MLPEncoder",
    "RAEDecoder",
    "RAEEncoder",
    "ResNetDecoder",
    "ResNetEncoder",
    "ResidualDecoder",
    "ResidualEncoder",
    "SequenceReader",
    "SharedPrior",
    "TableReader",
    "WAEDecoder",
    "WAEEncoder",
    "table_width",
]
