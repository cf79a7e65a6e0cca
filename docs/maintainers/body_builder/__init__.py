"""The stages of ``build_body.py``: sources, T-pose, decimation, fits."""
