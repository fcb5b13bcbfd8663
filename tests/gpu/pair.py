"""A distributed script of the user's, in half precision, as fastai documents it."""

import trainings

if __name__ == "__main__":
    trainings.distributed()
