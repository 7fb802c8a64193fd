"""Other systems that learn from little, each on its own kind of label, for the ladder of labels.

- `training`: one training loop for all of them, and the reuse of their recorded networks.
- `extraction`: their maps of a prepared set.
- `box_detector`: a detector that learns from boxes, and masks of its boxes, after Spiegler et al.
- `segment_anything`: masks of prompts by a small Segment Anything, and of shifted boxes.
"""
