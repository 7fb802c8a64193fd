"""Other systems that learn from little, each on its own kind of label, for the ladder of labels.

- `training`: one training loop for all of them, and the reuse of their recorded networks.
- `extraction`: their maps of a prepared set.
- `encoder`: the ResNet-18 of those that learn from labels of exams and slices.
- `exam_mil`: `ExamMil`, multiple-instance learning from exams; `explain_exam` shows the attention along their slices.
- `slice_mil`: `SliceMil`, multiple-instance learning from slices, whose instances are cells of a feature map.
- `sequence_cam`: a ResNet per slice, an LSTM over the slices of a scan, and Grad-CAM; from labels of slices.
- `pseudo_masks`: masks from these maps and from HU, by a rule that reads no mask.
- `sequence_steps`: the steps of both, and of a U-Net that is trained on the pseudo-masks.
- `box_detector`: a detector that learns from boxes, and masks of its boxes, after Spiegler et al.
- `segment_anything`: masks of prompts by a small Segment Anything, and of shifted boxes.
- `focal_segnet`: FocalSegNet, which learns from balls.
- `focal_unet`: its network, a U-Net of focal modulation.
- `dense_crf`: its dense CRF, from large balls to dense bleeds.
- `lesions`: Dice of lesions by its published rule, and of all lesions.
- `steps`: all of them, for the chapters.
"""
