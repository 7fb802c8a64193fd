"""Swin transformers of other libraries, as the recording of attention sees them: one adapter file per library.

`protocol` says what is asked of a Swin; `timm`, `torchvision`, `transformers` and `monai` answer it, each imported only
if a model has modules of that library. `wrappers` takes a model out of its wrapper, or refuses the wrapper by name.
"""
