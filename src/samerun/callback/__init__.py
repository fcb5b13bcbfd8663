"""
Log fastai trainings to W&B.

``from samerun.callback.wandb import WandbCallback`` takes the place of
``from fastai.callback.wandb import WandbCallback``. Nothing here needs the rest of samerun.
"""
