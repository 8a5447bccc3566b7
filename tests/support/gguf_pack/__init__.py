"""Loads GGUF files the way ComfyUI-GGUF does, which no package index has: weights stay packed until they are used.

A custom node pack of its own, linked into a test server's ``custom_nodes``. What a sampler or a saver meets is the same
as with the real one: packed bytes under the shape of the weight, a state dict of empty tensors on the meta device,
LoRAs that are kept beside a packed weight and added whenever it is unpacked, and a MODEL whose patcher is of another
class than the host's.
"""

import comfy.lora
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.utils
import folder_paths
import gguf
import torch
from torch import Tensor, nn

PLAIN = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16)


class PackedWeight(Tensor):
    """The bytes of a weight, under the weight's own shape."""

    @staticmethod
    def of(data: Tensor, kind: gguf.GGMLQuantizationType, shape: tuple[int, ...]) -> "PackedWeight":
        packed = data.as_subclass(PackedWeight)
        packed.kind, packed.full_shape, packed.loras = kind, torch.Size(shape), []
        return packed

    @property
    def shape(self) -> torch.Size:
        return self.__dict__.get("full_shape", self.size())

    def to(self, *args, **kwargs) -> Tensor:
        moved = super().to(*args, **kwargs)
        moved.__dict__.update({**self.__dict__, "loras": list(self.__dict__.get("loras", ()))})
        return moved

    def clone(self, *args, **kwargs) -> Tensor:
        return self

    def detach(self) -> Tensor:
        return self

    def unpack(self, dtype: torch.dtype) -> Tensor:
        """Return the weight itself, with what LoRAs add."""
        raw = self.as_subclass(Tensor)
        if self.kind not in PLAIN:
            raw = torch.from_numpy(gguf.quants.dequantize(raw.cpu().numpy(), self.kind)).reshape(
                self.full_shape
            )
        weight = raw.to(dtype)
        for patches, key in self.loras:
            weight = comfy.lora.calculate_weight(patches, weight, key)
        return weight


def is_packed(weight: object) -> bool:
    return isinstance(weight, PackedWeight) and weight.kind not in PLAIN


class _Layer(nn.Module):
    """Unpacks when it is called."""

    comfy_cast_weights = True

    def _load_from_state_dict(
        self, state_dict, prefix, metadata, strict, missing, unexpected, errors
    ) -> None:
        for name in ("weight", "bias"):
            if (value := state_dict.get(prefix + name)) is not None:
                setattr(self, name, nn.Parameter(value, requires_grad=False))
            elif name == "weight":
                missing.append(prefix + name)
                self.weight = nn.Parameter(
                    torch.zeros(self.out_features, self.in_features), requires_grad=False
                )

    def _save_to_state_dict(self, destination, prefix, keep_vars) -> None:
        for name in ("weight", "bias"):
            if (value := getattr(self, name)) is not None:
                destination[prefix + name] = torch.zeros_like(value, device="meta")

    def unpacked(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        values = [self.weight, self.bias if hasattr(self, "bias") else None]
        return tuple(
            value.unpack(dtype)
            if isinstance(value, PackedWeight)
            else value
            if value is None
            else value.to(dtype)
            for value in values
        )


class PackedOperations(comfy.ops.manual_cast):
    """The host's layers; those that GGUF files pack keep their weights packed."""

    class Linear(_Layer, comfy.ops.manual_cast.Linear):
        def __init__(self, in_features, out_features, bias=True, device=None, dtype=None) -> None:
            nn.Module.__init__(self)
            self.in_features, self.out_features = in_features, out_features
            self.weight = self.bias = None

        def forward(self, input: Tensor) -> Tensor:
            return nn.functional.linear(input, *self.unpacked(input.dtype))

    class Embedding(_Layer, comfy.ops.manual_cast.Embedding):
        bias = None

        def forward(self, input: Tensor, out_dtype: torch.dtype | None = None) -> Tensor:
            weight, _ = self.unpacked(out_dtype or torch.float32)
            return nn.functional.embedding(input, weight, self.padding_idx)


class PackedPatcher(comfy.model_patcher.ModelPatcher):
    """Keeps LoRAs beside the packed weights instead of writing them into these."""

    def patch_weight_to_device(self, key, device_to=None, inplace_update=False, **options):
        weight = comfy.utils.get_attr(self.model, key)
        if not is_packed(weight):
            return super().patch_weight_to_device(key, device_to, inplace_update, **options)
        if key in self.patches:
            weight = weight.to(device_to)
            weight.loras = [(self.patches[key], key)]
            comfy.utils.set_attr_param(self.model, key, weight)
        return None

    def load(self, *args, force_patch_weights=False, **options):
        return super().load(*args, force_patch_weights=True, **options)

    def unpatch_model(self, device_to=None, unpatch_weights=True):
        if unpatch_weights:
            for weight in filter(is_packed, self.model.parameters()):
                weight.loras = []
        return super().unpatch_model(device_to, unpatch_weights)

    @classmethod
    def of(cls, patcher: comfy.model_patcher.ModelPatcher) -> "PackedPatcher":
        kind, patcher.__class__ = patcher.__class__, cls
        copy, patcher.__class__ = comfy.model_patcher.ModelPatcher.clone(patcher), kind
        copy.size = 0
        return copy


def read_gguf(path: str) -> dict[str, Tensor]:
    """Return a file's tensors, packed."""
    found = {}
    for tensor in gguf.GGUFReader(path).tensors:
        shape, data = tuple(int(n) for n in reversed(tensor.shape)), torch.from_numpy(tensor.data.copy())
        if tensor.tensor_type in PLAIN:
            data = data.view(*shape)
        found[tensor.name] = PackedWeight.of(data, tensor.tensor_type, shape)
    return found


class UnetLoaderGGUF:
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "load_unet", "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {"unet_name": (folder_paths.get_filename_list("unet_gguf"),)}}

    def load_unet(self, unet_name: str) -> tuple:
        weights = read_gguf(folder_paths.get_full_path_or_raise("unet_gguf", unet_name))
        options = {"custom_operations": PackedOperations}
        model = comfy.sd.load_diffusion_model_state_dict(weights, model_options=options)
        return (PackedPatcher.of(model),)


folder_paths.folder_names_and_paths.setdefault(
    "unet_gguf", (folder_paths.folder_names_and_paths["diffusion_models"][0], {".gguf"})
)
NODE_CLASS_MAPPINGS = {"UnetLoaderGGUF": UnetLoaderGGUF}
