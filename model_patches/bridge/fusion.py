"""Fuse parallel sub-windows inside one window with the host's context windows."""

import comfy.context_windows as context_windows

from ..windows import num_frames_of

LATENT_FRAME_DIM = 2


def check_fusion(length_latent: int, overlap_latent: int, *, num_known_latent: int) -> None:
    """Refuse sub-windows that cannot be fused.

    Raises:
        ValueError: the overlap is not smaller than the sub-window, or the known frames fill it.
    """
    if not 0 <= overlap_latent < length_latent:
        raise ValueError(
            f"fusion_overlap is {overlap_latent} latent frames and fusion_length {length_latent}. "
            f"Set fusion_overlap to {max(0, length_latent - 1)} or less."
        )
    if num_known_latent >= length_latent:
        raise ValueError(
            f"fusion_length is {length_latent} latent frames and overlap {num_known_latent}: every sub-window begins "
            "with the known frames, so nothing is left to make. Set fusion_length to "
            f"{num_frames_of(num_known_latent + 1)} or more, or overlap lower."
        )


def with_parallel_fusion(model, *, length_latent: int, overlap_latent: int, num_known_latent: int):
    """Return a clone of MODEL that denoises a long window as overlapping sub-windows and blends them at every step.

    The known frames are put at the start of every sub-window, or later ones would start from nothing.

    Raises:
        ValueError: the sub-windows cannot be fused (see ``check_fusion``).
    """
    check_fusion(length_latent, overlap_latent, num_known_latent=num_known_latent)
    model = model.clone()
    model.model_options["context_handler"] = context_windows.IndexListContextHandler(
        context_schedule=context_windows.get_matching_context_schedule(
            context_windows.ContextSchedules.STATIC_STANDARD
        ),
        fuse_method=context_windows.get_matching_fuse_method(context_windows.ContextFuseMethods.PYRAMID),
        context_length=length_latent,
        context_overlap=overlap_latent,
        dim=LATENT_FRAME_DIM,
        cond_retain_index_list=",".join(str(i) for i in range(num_known_latent)),
    )
    context_windows.create_prepare_sampling_wrapper(model)
    return model
