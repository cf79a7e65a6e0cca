"""People drawn from the built-in body: the embedded data set.

Layout, in the order a picture comes to be: ``motion`` and ``pose`` (which pose), ``look`` (who), ``camera`` (seen from
where), ``figure``, ``shading`` and ``person`` (a layer with labels), ``cache`` (layers kept),
``background``, ``objects``, ``augment``, ``compositing`` and ``film`` (a picture), ``crops`` and ``scenes`` (views),
``dataset`` and ``datamodule``; ``options`` and ``streams`` serve all of them, ``domain`` restyles them, ``bench``
measures.
Clips go the same way: ``clip_motion`` (which window of a recording), ``clip_camera`` (a hand-held camera),
``clip_stage`` (the moving person), ``clip_settings``, ``clip_shutter`` (an exposure) and ``clip_layers`` (layers with
labels), ``clip_view`` (a clip) and ``clip_dataset``. ``motion_windows`` gives the recordings themselves, without
pictures.
"""

from posekit.data.synthetic.datamodule import SyntheticPeople

__all__ = ["SyntheticPeople"]
