"""Floating point operations of the paper's network, as sklcae computes it."""


def forward_flops(image_shape=(1, 64, 64), latent_dim=64):
    """Return the operations of the encoder and of the decoder for one stamp.

    A multiplication and an addition count as two operations. Upsampling and convolution
    count as one folded convolution, with 2x2 instead of 3x3 multiplications for each
    pixel of the output. Biases, ReLU, pooling and the loss are left out. Height and
    width are multiples of four.
    """
    channels, height, width = image_shape
    full = height * width
    half, quarter = full // 4, full // 16
    dense = latent_dim * 64 * quarter
    encoder = full * channels * 32 * 9 + half * 32 * 64 * 9 + dense
    decoder = dense + half * 64 * 64 * 4 + full * 64 * 32 * 4 + full * 32 * channels * 9
    return 2 * encoder, 2 * decoder


def training_flops(**kwargs):
    """Return the operations of a training step for one stamp.

    The backward pass counts as two forward passes.
    """
    return 3 * sum(forward_flops(**kwargs))
