"""Commands that train, and list the recipes."""

from invoke.context import Context
from invoke.exceptions import Exit

from samerun.cli.common import checkout, say, say_if_possible
from samerun.cli.verb import verb
from samerun.host.launch.request import Request


@verb(positional=["target"])
def train(context: Context, request: Request) -> None:
    """
    Train a recipe, or your own fastai script, in the container.

    Examples:
        invoke train
        invoke train tabular -- --epochs 3 --lr 0.002
        invoke train --gpus 2
        invoke train --gpus 0 --procs 2
        invoke train path/to/train.py --data photos -- --arch resnet34
        invoke train --nodes 2 --node-rank 0 --rdzv 10.0.0.4:29400
        invoke train --resume runs/digits-20260101-120000-1a2b

    Flags of the recipe or the script come after --. Builds the image first if it is
    not up to date. Without a W&B key the run is recorded offline. Exits with the
    training's own exit code; 75 means that the run can be resumed (docs/surviving.md).
    """
    from samerun.host.launch import train
    from samerun.host.run import summary

    if request.dry:
        say(train.show(request, checkout()))
        return
    run = train.train(request, checkout(), say_if_possible)
    say_if_possible()
    say_if_possible(summary.summarize(run, train.folder(request, run)))
    if run.outcome.exit_code:
        raise Exit(code=run.outcome.exit_code)


@verb()
def recipes(context: Context) -> None:
    """List the recipes with their flags."""
    from samerun.core.recipe_options import list_recipes

    for recipe in list_recipes(checkout().recipes):
        say(f"{recipe.name}: {recipe.summary}\n{recipe.usage()}\n")
