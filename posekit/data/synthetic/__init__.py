"""People drawn from the built-in body: the embedded data set.

Layout, in the order a picture comes to be: ``motion`` and ``pose`` (which pose), ``look`` (who), ``camera`` (seen from
where), ``figure``, ``rasterizer``, ``shading`` and ``person`` (a layer with labels), ``cache`` (layers kept),
``background``, ``objects``, ``augment`` and ``compositing`` (a picture), ``crops`` and ``scenes`` (views), ``dataset``
and ``datamodule``; ``options`` and ``streams`` serve all of them, ``bench`` measures.
A further view composes the same layers: ``person.render`` draws any person from any view, so a clip is one person with
successive frames of a ``MotionClip``, and a domain is another way to draw looks, light and photographs.
"""

from posekit.data.synthetic.datamodule import SyntheticPeople

__all__ = ["SyntheticPeople"]
