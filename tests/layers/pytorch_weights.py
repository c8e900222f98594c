"""Loads PyTorch's weights into our layers."""


def set_dense(dense, kernel, bias):
    """Loads a PyTorch linear layer, whose kernel is `[out, in]`."""
    dense.set_weights([kernel.T, bias])


def set_self_attention(attention, weights):
    set_dense(
        attention.input_projection,
        weights["self_attn.in_proj_weight"],
        weights["self_attn.in_proj_bias"],
    )
    set_dense(
        attention.output_projection,
        weights["self_attn.out_proj.weight"],
        weights["self_attn.out_proj.bias"],
    )


def set_cross_attention(attention, weights):
    kernel, bias = (weights[f"multihead_attn.in_proj_{part}"] for part in ("weight", "bias"))
    d_model = kernel.shape[1]  # The rows of PyTorch's kernel are query, key, value.
    set_dense(attention.query_projection, kernel[:d_model], bias[:d_model])
    set_dense(attention.memory_projection, kernel[d_model:], bias[d_model:])
    set_dense(
        attention.output_projection,
        weights["multihead_attn.out_proj.weight"],
        weights["multihead_attn.out_proj.bias"],
    )


def set_feed_forward(feed_forward, weights):
    set_dense(feed_forward.hidden_projection, weights["linear1.weight"], weights["linear1.bias"])
    set_dense(feed_forward.output_projection, weights["linear2.weight"], weights["linear2.bias"])


def set_norms(norms, weights):
    for number, norm in enumerate(norms, 1):
        norm.set_weights([weights[f"norm{number}.weight"], weights[f"norm{number}.bias"]])
