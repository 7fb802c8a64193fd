"""Other systems that learn from little, each on its own kind of label, for the ladder of labels.

- `training`: one training loop for all of them, and the reuse of their recorded networks.
- `extraction`: their maps of a prepared set.
- `exam_mil`: `ExamMil`, multiple-instance learning from exams; `explain_exam` shows the attention along their slices.
- `slice_mil`: `SliceMil`, multiple-instance learning from slices, whose instances are cells of a feature map.
"""
