import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ktransformer.exporting.lite.compaction import share_constants


def test_equal_constants_share_the_first_ones_buffer():
    ones, twos = (np.full(4, value, np.uint8) for value in (1, 2))
    contents = (None, ones, twos, ones.copy(), None, ones.copy())  # The last is metadata.
    graphs = [
        schema.SubGraphT(tensors=[schema.TensorT(buffer=number) for number in numbers])
        for numbers in ((1, 2, 0), (3, 4))
    ]
    model = schema.ModelT(
        buffers=[schema.BufferT(data=content) for content in contents],
        subgraphs=graphs,
        metadata=[schema.MetadataT(name="about", buffer=5)],
    )
    share_constants(model)
    assert [[tensor.buffer for tensor in graph.tensors] for graph in graphs] == [[1, 2, 0], [1, 4]]
    filled = [buffer.data is not None for buffer in model.buffers]
    assert filled == [False, True, True, False, False, True]
