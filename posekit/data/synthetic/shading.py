"""Deferred shading: what covers each visible pixel (cloth, skin, hair, face) and how the light falls on it.

Materials are decided per pixel from the interpolated rest coordinates, which gives sharp seams on a coarse mesh.
All arrays hold one value per visible pixel, N of them, at the supersampled resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Bytes, Float32, Int64
from posekit.data.synthetic.figure import CURTAIN, SKIRT, Figure
from posekit.data.synthetic.look import Garment, Look
from posekit.data.synthetic.patterns import TILE, cloth_tiles, fold_tiles, grain_tile
from posekit.geometry.rasterizer import Visible, rasterize

SKIN, BOTTOM, TOP, SHOE, SOLE, SOCK, HAIR, TRIM, INNER, CAP, GLASS, EYE, IRIS, LIPS, BROW, TEETH, STUBBLE = range(17)


@dataclass(frozen=True)
class Light:
    """A key light, a sky above and bounced light from below.

    Attributes:
        direction: (3,) unit vector to the key light, camera frame.
        key: (3,) RGB of the key light.
        sky: (3,) RGB of the ambient light from above.
        ground: (3,) RGB of the ambient light from below.
    """

    direction: Float32
    key: Float32
    sky: Float32
    ground: Float32


def sample_light(rng: np.random.Generator) -> Light:
    """Draws daylight, lamps or overcast light, from above and mostly from the camera's side."""
    azimuth, height = rng.uniform(-2.2, 2.2), rng.uniform(0.2, 1.2)
    direction = np.array([np.sin(azimuth) * np.cos(height), -np.sin(height), -np.cos(azimuth) * np.cos(height)])
    warm = rng.normal(0, 0.05)
    tint = np.array([1 + warm, 1.0, 1 - warm])
    hard = rng.uniform(0.25, 1.0)
    ambient = rng.uniform(1.05, 1.4) - 0.62 * hard
    cool = np.array([1 - warm / 2, 1.0, 1 + warm / 2])
    ground = ambient * rng.uniform(0.4, 0.75) * np.array([1.02, 1.0, 0.96])
    return Light(*(np.asarray(v, dtype=np.float32) for v in (direction, hard * tint, ambient * cool, ground)))


def materials(rest: Float32, part: Bytes, look: Look) -> Bytes:
    """Decides the material of each pixel.

    Args:
        rest: (3, N) rest coordinates, metres.
        part: (N,) body part.
        look: The person's looks.
    """
    x, y, z = rest
    across = np.abs(x)
    out = np.zeros(len(x), dtype=np.uint8)
    body = part < SKIRT
    np.putmask(out, (y < look.hem) & (y > look.leg_end), BOTTOM)
    np.putmask(out, y < look.sock_top, SOCK)
    np.putmask(out, y < look.shoe_top, SHOE)
    if look.shoe_top > -0.9:
        np.putmask(out, y < -0.888, SOLE)
    if look.has_top:
        front = z > 0.01
        neckline = np.where(front, look.neck_front, np.float32(0.52)) + look.neck_slope * np.maximum(across - 0.02, 0)
        top = (y >= look.hem) & (across < look.sleeve) & (y < np.minimum(neckline, 0.575))
        np.putmask(out, top, TOP)
        if look.neck_slope < 0.8:
            np.putmask(out, top & (y > neckline - 0.02) & (across < 0.12), TRIM)
        if look.open_front:
            edge = look.open_front + 0.25 * np.maximum(0.25 - y, 0) * look.open_front * 4
            np.putmask(out, front & (across < edge) & (y < 0.5) & (y > look.hem - 0.02), INNER)
        if look.chest_patch:
            near = (across < look.chest_patch) & (np.abs(y - 0.3) < look.chest_patch) & front
            np.putmask(out, top & near, TRIM)
    if look.belt:
        np.putmask(out, np.abs(y - look.hem - 0.012) < 0.018, SHOE)
    if look.gloves:
        np.putmask(out, across > 0.675, TRIM)
    if not body.all():
        np.putmask(out, part == SKIRT, TOP if look.dress else BOTTOM)
        np.putmask(out, part == CURTAIN, HAIR)
    head = np.flatnonzero((y > 0.545) & body & (across < 0.13))
    if len(head):
        out[head] = _head(x[head], y[head], z[head], out[head], look)
    return out


def _head(x: Float32, y: Float32, z: Float32, out: Bytes, look: Look) -> Bytes:
    """Hair, headgear and the face."""
    across = np.abs(x)
    if look.beard:
        low = (y < 0.652 - 0.25 * np.maximum(0.1 - z, 0)) & (z > 0.02) & (y > 0.565)
        np.putmask(out, low & (np.hypot(across, (y - 0.652) * 1.5) > 0.024), STUBBLE)
    face = z > 0.07
    mouth = np.hypot(x / 0.024, (y - 0.613) / (0.006 + 0.005 * look.mouth_open)) < 1
    np.putmask(out, face & mouth, LIPS)
    if look.mouth_open > 0.4:
        np.putmask(out, face & (np.hypot(x / 0.018, (y - 0.613) / 0.005) < 1), TEETH)
    eye = across - 0.031
    np.putmask(out, face & (np.hypot(eye / 0.0155, (y - 0.691) / 0.0075) < 1), EYE)
    np.putmask(out, face & (np.hypot(eye, y - 0.691) < 0.0068), IRIS)
    np.putmask(out, face & (np.abs(eye) < 0.019) & (np.abs(y - 0.7125 + 6 * eye * eye) < 0.0042), BROW)
    # From the forehead past the temples and over the ears to the nape.
    hairline = np.interp(
        z, (-0.06, -0.02, 0.03, 0.055, 0.085, 0.12), (0.565, 0.6, 0.685, 0.70, look.hairline - 0.02, look.hairline)
    )
    scalp = y > hairline.astype(np.float32)
    ear = (across > 0.079) & (y > 0.645) & (y < 0.712) & (z > -0.005) & (z < 0.06)
    if not look.bald:
        np.putmask(out, scalp & ~(ear & (look.curtain == 0)), HAIR)
    if look.cap == 1:
        np.putmask(out, (y > 0.735) | (scalp & (y > 0.72)), CAP)
    elif look.cap == 2:
        np.putmask(out, (y > 0.725) | (scalp & (y > 0.66)), CAP)
    elif look.cap == 3:
        np.putmask(out, scalp | (y < 0.59) | ((across > 0.07) & (z < 0.09)), CAP)
    if look.glasses:
        ring = np.hypot(eye / 0.024, (y - 0.688) / 0.017)
        bridge = (np.abs(y - 0.695) < 0.0035) & (across < 0.085) & (z > 0.0)
        np.putmask(out, (face & ((ring < 1.12) & ((ring > 0.85) | (look.glasses == 2)))) | bridge, GLASS)
    return out


def _palette(look: Look) -> Float32:
    dark = np.array([0.04, 0.04, 0.05], dtype=np.float32)
    colors = np.zeros((17, 3), dtype=np.float32)
    colors[SKIN], colors[LIPS], colors[HAIR], colors[BROW], colors[IRIS] = (
        look.skin,
        look.lips,
        look.hair,
        look.hair * 0.8,
        look.iris * 0.6,
    )
    colors[BOTTOM], colors[TOP], colors[SHOE] = look.bottom.colors[0], look.top.colors[0], look.shoes.colors[0]
    colors[SOLE], colors[SOCK], colors[TRIM], colors[INNER] = look.shoes.colors[1], look.sock, look.trim, look.inner
    colors[CAP], colors[GLASS], colors[EYE], colors[TEETH] = look.cap_color, dark, (0.88, 0.87, 0.85), (0.8, 0.77, 0.72)
    colors[STUBBLE] = look.skin * (1 - 0.85 * look.beard) + look.hair * (0.85 * look.beard)
    return colors


def _tile_index(u: Float32, v: Float32, scale: float) -> NDArray[np.int32]:
    column = (u * np.float32(scale * TILE)).astype(np.int32) & (TILE - 1)
    row = (v * np.float32(scale * TILE)).astype(np.int32) & (TILE - 1)
    return row * TILE + column


def albedo(rest: Float32, material: Bytes, look: Look) -> tuple[Float32, Float32]:
    """Returns colours (3, N) and the folds' relief (N,), a factor on the key light."""
    x, y, z = rest
    colors = np.ascontiguousarray(_palette(look).T).take(material, axis=1)
    u = x + np.float32(0.6) * z + 1
    v = 1 - y + np.float32(0.3) * z
    grain = grain_tile().reshape(-1)[_tile_index(u, v, 9.0)]
    relief = 1 + np.float32(0.035) * grain
    hair = np.flatnonzero(material == HAIR)
    if len(hair):
        strands = fold_tiles()[1].reshape(-1)[_tile_index(u[hair] * 2, v[hair], 9.0)]
        relief[hair] += np.float32(0.16) * strands
    for label, garment in ((TOP, look.top), (BOTTOM, look.bottom)):
        where = np.flatnonzero(material == label)
        if len(where):
            _wear(where, u[where], v[where], garment, colors, relief)
    return colors, relief


def _wear(where: Int64, u: Float32, v: Float32, garment: Garment, colors: Float32, relief: Float32) -> None:
    folds = fold_tiles()[garment.fold_tile].reshape(-1)[_tile_index(u, v, 2.3)]
    relief[where] += np.float32(garment.folds) * folds
    if garment.tile >= 0:
        mix = cloth_tiles()[garment.tile].reshape(-1)[_tile_index(u, v, garment.scale / 2)]
        first, second = garment.colors
        for channel in range(3):
            colors[channel, where] = first[channel] + mix * (second[channel] - first[channel])


def occlusion(seen: Visible) -> Float32:
    """Returns (N,) ambient light left where nearer surfaces stand around: creases, arms in front of the trunk."""
    width, height = seen.size
    image = seen.inverse_depth.reshape(height, width)
    inverse = seen.inverse_depth[seen.pixel]
    extent = max(3, int(0.11 * np.sqrt(len(seen.pixel)))) | 1
    around = cv2.blur(image, (extent, extent)).reshape(-1)[seen.pixel]
    nearer = (around - inverse) / (inverse * inverse)  # metres, to first order
    return 1 - np.float32(0.55) * np.clip(nearer * np.float32(5.0), 0, 1)


@dataclass(frozen=True)
class ShadowMap:
    """What the key light sees of a figure.

    Attributes:
        axes: (3, 3) camera frame -> right, down and away from the light.
        low: (2,) metres, the map's corner.
        scale: px per metre.
        far: Metres added to depths, so that they are positive.
        side: Of the map, px.
        inverse_depth: (side * side,) 1/m.
    """

    axes: Float32
    low: Float32
    scale: float
    far: np.float32
    side: int
    inverse_depth: Float32

    def reach(self, points: Float32) -> Float32:
        """Returns (N,) in [0, 1]: how much of the key light comes to points (3, N) of the camera's frame."""
        local = self.axes @ points
        column = np.clip((local[0] - self.low[0]) * self.scale + 1.5, 0, self.side - 1).astype(np.int32)
        row = np.clip((local[1] - self.low[1]) * self.scale + 1.5, 0, self.side - 1).astype(np.int32)
        first = 1 / np.maximum(self.inverse_depth[row * self.side + column], np.float32(1e-3))
        behind = local[2] + self.far - first
        return 1 - np.clip((behind - np.float32(0.035)) * np.float32(30.0), 0, 1)


def shadow_map(figure: Figure, vertices: Float32, light: Light, resolution: int = 112) -> ShadowMap:
    """Looks at the figure from the light.

    Args:
        figure: The mesh.
        vertices: (V, 3) posed, camera frame.
        light: Its direction counts.
        resolution: Side of the shadow map, px.
    """
    forward = -light.direction
    right = np.cross(np.array([0, 1, 0], dtype=np.float32), forward)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward]).astype(np.float32)
    seen = vertices @ axes.T
    low, high = seen[:, :2].min(0), seen[:, :2].max(0)
    scale = (resolution - 3) / float((high - low).max())
    # The light is so far away that its rays are as good as parallel; the rasterizer wants a positive depth.
    far = np.float32(30.0) - seen[:, 2].mean()
    picture = rasterize((seen[:, :2] - low) * scale + 1, seen[:, 2] + far, figure.faces, (resolution, resolution))
    return ShadowMap(axes, low, scale, far, resolution, picture.inverse_depth)


def shade(
    figure: Figure,
    seen: Visible,
    vertices: Float32,
    normals: Float32,
    points: Float32,
    look: Look,
    light: Light,
    vertex_reach: Float32 | None = None,
) -> Float32:
    """Colours the visible pixels.

    Args:
        figure: The mesh.
        seen: What the camera sees of it.
        vertices: (V, 3) posed, camera frame.
        normals: (V, 3) unit normals, camera frame.
        points: (3, N) surface points of the visible pixels, camera frame.
        look: The person's looks.
        light: The light.
        vertex_reach: (V,) how much of the key light comes to each vertex; None casts shadows pixel by pixel.

    Returns:
        (3, N) RGB in [0, 1].
    """
    attributes = [figure.rest, normals] if vertex_reach is None else [figure.rest, normals, vertex_reach[:, None]]
    values = seen.interpolate(np.concatenate(attributes, 1), figure.faces)
    rest, normal = values[:3], values[3:6]
    normal /= np.sqrt((normal * normal).sum(0)) + np.float32(1e-6)
    material = materials(rest, figure.part[seen.face], look)
    colors, relief = albedo(rest, material, look)
    reach = shadow_map(figure, vertices, light).reach(points) if vertex_reach is None else values[6]
    facing = light.direction @ normal
    key = np.maximum((facing + np.float32(0.15)) / np.float32(1.15), 0) * reach * relief
    up = np.float32(0.5) - np.float32(0.5) * normal[1]
    ambient = occlusion(seen) * (np.float32(0.6) + np.float32(0.4) * relief)
    glossy = np.isin(material, (SKIN, HAIR, SHOE, GLASS))
    half = light.direction + np.array([0, 0, -1], dtype=np.float32)
    half /= np.linalg.norm(half)
    shine = np.maximum(half @ normal, 0)
    shine *= shine
    shine *= shine
    shine *= shine
    shine *= shine * reach * glossy
    out = np.empty_like(colors)
    for channel in range(3):
        mixed = up * (light.sky[channel] - light.ground[channel]) + light.ground[channel]
        out[channel] = colors[channel] * (mixed * ambient + key * light.key[channel]) + shine * (
            np.float32(0.12) * light.key[channel]
        )
    return np.clip(out, 0, 1, out=out)
