"""Other domains: does the idea carry over, to graphs and to another organ?

- `graph`: head-wise gradient weighting of a learned graph, on planted edges and decoys.
- `lung`: training, maps and scores of the package on the lung phantom.
- `lung_phantom`: synthetic slices of the chest with ground glass.
"""
