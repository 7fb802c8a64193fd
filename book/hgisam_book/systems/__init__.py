"""Other systems that learn from little, each on its own kind of label, for the ladder of labels.

- `training`: one training loop for all of them, and the reuse of their recorded networks.
- `extraction`: their maps of a prepared set.
- `focal_segnet`: FocalSegNet, a U-Net of focal modulation that learns from balls.
- `dense_crf`: its dense CRF, from large balls to dense bleeds.
- `lesions`: Dice of lesions by its published rule, and of all lesions.
"""
