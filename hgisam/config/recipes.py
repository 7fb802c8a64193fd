"""Two ways to train: as the released code does, for reproduction, and with its defects mended."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """What differs in the code; learning rate, patience, batch and the like are keys of the profile.

    Attributes:
        softmax_before_loss: The loss, which takes logits, is given probabilities: it can't fall below 0.313.
        scale: What the classifier sees. "brain": the brain's soft tissue at one level, each channel standardised by the
            training set; "slice": the whole slice, each channel stretched from its own least to its own largest value.

    Source: released code of Rasoulian et al. 2023, its trainer and its preprocessing.
    """

    softmax_before_loss: bool
    scale: str


RECIPES = {
    "corrected": Recipe(softmax_before_loss=False, scale="brain"),
    "published": Recipe(softmax_before_loss=True, scale="slice"),
}
