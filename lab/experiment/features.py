"""The small network behind tiny-Frechet: it learns to classify clips, and its last features are compared.

It is trained from a fixed seed on rendered clips when it is first needed, in a minute or two, and cached.
"""

import torch
from torch import Tensor, nn

from .. import world
from ..models.run import save_atomically, stage_dir

STEPS, BATCH, FEATURES = 400, 24, 32
HEADS = {
    "shape": len(world.SHAPES),
    "colour": len(world.COLOURS),
    "background": len(world.BACKGROUNDS),
    "place": len(world.PLACES),
    "motion": len(world.DIRECTIONS) * len(world.SPEEDS),
}
FRAMES = 13


class FeatureNet(nn.Module):
    """Every second frame by itself, then all together over time."""

    def __init__(self) -> None:
        super().__init__()

        def stage(inside: int, outside: int) -> list[nn.Module]:
            return [
                nn.Conv2d(inside, outside, 3, stride=2, padding=1, padding_mode="circular"),
                nn.GroupNorm(4, outside),
                nn.SiLU(),
            ]

        self.frames = nn.Sequential(*stage(3, 16), *stage(16, 32), *stage(32, 48))
        self.time = nn.Sequential(nn.Conv3d(48, 64, (3, 3, 3), padding=(1, 1, 1)), nn.SiLU())
        self.last = nn.Sequential(nn.Linear(64 * 4, FEATURES), nn.SiLU())
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, size) for name, size in HEADS.items()})

    def features(self, clips: Tensor) -> Tensor:
        """Return (B, FEATURES) of clips (B, 13, 3, 64, 64) in [0, 1]."""
        frames = clips[:, ::2].float().clamp(0, 1) - 0.5
        count = frames.shape[1]
        maps = self.frames(frames.flatten(0, 1)).unflatten(0, (-1, count)).transpose(1, 2)
        pooled = nn.functional.adaptive_avg_pool3d(self.time(maps), (1, 2, 2))
        return self.last(pooled.flatten(1))

    def loss(self, clips: Tensor, scenes: world.Scenes) -> Tensor:
        """Return the mean cross entropy over the factors."""
        features = self.features(clips)
        losses = [
            nn.functional.cross_entropy(head(features), getattr(scenes, name))
            for name, head in self.heads.items()
        ]
        return torch.stack(losses).mean()


def train(steps: int = STEPS, seed: int = 0) -> FeatureNet:
    """Train the network on freshly drawn scenes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = FeatureNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    with torch.enable_grad():
        for _ in range(steps):
            scenes = world.sample_scenes(BATCH, generator=generator)
            loss = net.loss(world.render_clip(scenes, FRAMES), scenes)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    print(f"tiny-Frechet's network: last loss {loss.item():.3f} after {steps} steps", flush=True)
    return net.eval().requires_grad_(False)


def feature_net() -> FeatureNet:
    """Return the trained network from the cache, training it first where it is not there."""
    path = stage_dir("features") / "net.pt"
    if not path.exists():
        save_atomically(train().state_dict(), path)
    net = FeatureNet()
    net.load_state_dict(torch.load(path, weights_only=True))
    return net.eval().requires_grad_(False)
