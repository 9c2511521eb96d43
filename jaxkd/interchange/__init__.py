"""Read networks from PyTorch checkpoints, and write them for other programs.

``_to_onnx`` has what the ONNX files need: ``translate`` follows the program that JAX
traces with the rules of ``operations``, ``shapes`` and ``layers``, ``graph`` holds the
result, ``write`` compares it with JAX, and ``quantize`` makes its numbers 8-bit
integers.
"""

from jaxkd.interchange._export import export_stablehlo as export_stablehlo
from jaxkd.interchange._export import write_orbax as write_orbax
from jaxkd.interchange._export import write_safetensors as write_safetensors
from jaxkd.interchange._export import write_stablehlo as write_stablehlo
from jaxkd.interchange._read import read_metadata as read_metadata
from jaxkd.interchange._read import read_state_dict as read_state_dict
from jaxkd.interchange._recognize import Recognized as Recognized
from jaxkd.interchange._recognize import recognize as recognize
from jaxkd.interchange._rename import rename as rename
from jaxkd.interchange._state_dict import load_state_dict as load_state_dict
from jaxkd.interchange._state_dict import to_state_dict as to_state_dict
from jaxkd.interchange._to_onnx.quantize import quantize_onnx as quantize_onnx
from jaxkd.interchange._to_onnx.runtime import run_onnx as run_onnx
from jaxkd.interchange._to_onnx.write import OnnxCheck as OnnxCheck
from jaxkd.interchange._to_onnx.write import export_onnx as export_onnx
from jaxkd.interchange._to_onnx.write import write_onnx as write_onnx
