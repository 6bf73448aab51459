"""Convolutional networks whose every gradient is written by hand."""

from ds_cnn.__about__ import __version__
from ds_cnn.convolutions.conv import Conv1d, Conv2d, Conv3d
from ds_cnn.convolutions.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from ds_cnn.convolutions.convolution import (
    convolution,
    convolution_backward,
    convolution_bias_gradient,
    convolution_input_gradient,
    convolution_weight_gradient,
)
from ds_cnn.convolutions.kernel_initialisation import convolution_fans, initialise_kernels
from ds_cnn.convolutions.plain_convolution import (
    convolution_steps,
    plain_convolution,
    plain_input_gradient,
    plain_weight_gradient,
)
from ds_cnn.convolutions.techniques import TECHNIQUES, choose_technique
from ds_cnn.convolutions.transposed_convolution import (
    plain_transposed_convolution,
    plain_transposed_convolution_backward,
    transposed_convolution,
    transposed_convolution_backward,
)
from ds_cnn.gan.adversarial_loss import NonSaturatingLoss, WassersteinLoss
from ds_cnn.gan.dcgan import dcgan_discriminator, dcgan_generator, dcgan_initialise
from ds_cnn.gan.gan import GAN, WassersteinGAN
from ds_cnn.gan.gan_batches import GANBatches
from ds_cnn.gan.gradient_penalty import GradientPenalty
from ds_cnn.gan.penalty_rules import PENALTY_RULES, PenaltyRule
from ds_cnn.images.animation import animated_png
from ds_cnn.images.augmentation import Augmentation, RandomCrop, RandomHorizontalFlip
from ds_cnn.images.augmented import Augmented
from ds_cnn.images.image_folder import DecodedImages, ImageFolder, load_image_folder
from ds_cnn.images.normalise import Normalise
from ds_cnn.images.read_image import ImageError, ImageReader, read_image
from ds_cnn.images.write_image import image_grid, stretch_contrast, write_image
from ds_cnn.networks.alexnet import SmallAlexNet
from ds_cnn.networks.grad_cam import GradCam, grad_cam, last_convolution
from ds_cnn.networks.lenet import LeNet5
from ds_cnn.networks.residual_block import BasicBlock, Bottleneck
from ds_cnn.networks.resnet import CONFIGS, ResNet, ResNetBackbone, resnet18, resnet34, resnet50, resnet101, resnet152
from ds_cnn.networks.resnet_cifar import CifarResNet, SubsampledShortcut, resnet20, resnet32, resnet56
from ds_cnn.networks.resnet_config import ResNetConfig
from ds_cnn.networks.resnet_pretrained import ResNetForImageClassification
from ds_cnn.networks.tap import Tap, layer_named, tapped
from ds_cnn.networks.vgg import SMALL_VGG, VGG, VGG11, VGG13, VGG16, VGG19
from ds_cnn.normalisation.batch_norm2d import BatchNorm2d, BatchNorm3d
from ds_cnn.normalisation.dropout2d import Dropout1d, Dropout2d, Dropout3d
from ds_cnn.normalisation.frozen_batch_norm2d import FrozenBatchNorm2d, freeze_batch_norm, unfreeze_batch_norm
from ds_cnn.normalisation.instance_norm import (
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    instance_norm,
    instance_norm_backward,
    plain_instance_norm,
    plain_instance_norm_backward,
)
from ds_cnn.normalisation.local_response_norm import (
    LocalResponseNorm,
    local_response_norm,
    local_response_norm_backward,
    plain_local_response_norm,
    plain_local_response_norm_backward,
)
from ds_cnn.padding.pad import pad, pad_backward, plain_pad, plain_pad_backward
from ds_cnn.padding.pads import (
    CircularPad1d,
    CircularPad2d,
    CircularPad3d,
    ConstantPad1d,
    ConstantPad2d,
    ConstantPad3d,
    ReflectionPad1d,
    ReflectionPad2d,
    ReflectionPad3d,
    ReplicationPad1d,
    ReplicationPad2d,
    ReplicationPad3d,
    ZeroPad1d,
    ZeroPad2d,
    ZeroPad3d,
)
from ds_cnn.pooling.adaptive_avg_pool import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    adaptive_avg_pool,
    adaptive_avg_pool_backward,
    plain_adaptive_avg_pool,
    plain_adaptive_avg_pool_backward,
)
from ds_cnn.pooling.adaptive_max_pool import (
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    adaptive_max_pool,
    adaptive_max_pool_backward,
    plain_adaptive_max_pool,
    plain_adaptive_max_pool_backward,
)
from ds_cnn.pooling.avg_pool import (
    AvgPool1d,
    AvgPool2d,
    avg_pool,
    avg_pool_backward,
    plain_avg_pool,
    plain_avg_pool_backward,
)
from ds_cnn.pooling.max_pool import (
    MaxPool1d,
    MaxPool2d,
    max_pool,
    max_pool_backward,
    plain_max_pool,
    plain_max_pool_backward,
)
from ds_cnn.pooling.max_unpool2d import (
    MaxUnpool2d,
    max_unpool2d,
    max_unpool2d_backward,
    plain_max_unpool2d,
    plain_max_unpool2d_backward,
)
from ds_cnn.resampling.interpolate import interpolate, interpolate_backward
from ds_cnn.resampling.pixel_shuffle import PixelShuffle, PixelUnshuffle, pixel_shuffle, pixel_unshuffle
from ds_cnn.resampling.resample import plain_resample, plain_resample_backward, resample, resample_backward
from ds_cnn.resampling.upsample import Upsample

__all__ = [
    "CONFIGS",
    "GAN",
    "PENALTY_RULES",
    "SMALL_VGG",
    "TECHNIQUES",
    "VGG",
    "VGG11",
    "VGG13",
    "VGG16",
    "VGG19",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "Augmentation",
    "Augmented",
    "AvgPool1d",
    "AvgPool2d",
    "BasicBlock",
    "BatchNorm2d",
    "BatchNorm3d",
    "Bottleneck",
    "CifarResNet",
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "DecodedImages",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FrozenBatchNorm2d",
    "GANBatches",
    "GradCam",
    "GradientPenalty",
    "ImageError",
    "ImageFolder",
    "ImageReader",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LeNet5",
    "LocalResponseNorm",
    "MaxPool1d",
    "MaxPool2d",
    "MaxUnpool2d",
    "NonSaturatingLoss",
    "Normalise",
    "PenaltyRule",
    "PixelShuffle",
    "PixelUnshuffle",
    "RandomCrop",
    "RandomHorizontalFlip",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ResNet",
    "ResNetBackbone",
    "ResNetConfig",
    "ResNetForImageClassification",
    "SmallAlexNet",
    "SubsampledShortcut",
    "Tap",
    "Upsample",
    "WassersteinGAN",
    "WassersteinLoss",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
    "__version__",
    "adaptive_avg_pool",
    "adaptive_avg_pool_backward",
    "adaptive_max_pool",
    "adaptive_max_pool_backward",
    "animated_png",
    "avg_pool",
    "avg_pool_backward",
    "choose_technique",
    "convolution",
    "convolution_backward",
    "convolution_bias_gradient",
    "convolution_fans",
    "convolution_input_gradient",
    "convolution_steps",
    "convolution_weight_gradient",
    "dcgan_discriminator",
    "dcgan_generator",
    "dcgan_initialise",
    "freeze_batch_norm",
    "grad_cam",
    "image_grid",
    "initialise_kernels",
    "instance_norm",
    "instance_norm_backward",
    "interpolate",
    "interpolate_backward",
    "last_convolution",
    "layer_named",
    "load_image_folder",
    "local_response_norm",
    "local_response_norm_backward",
    "max_pool",
    "max_pool_backward",
    "max_unpool2d",
    "max_unpool2d_backward",
    "pad",
    "pad_backward",
    "pixel_shuffle",
    "pixel_unshuffle",
    "plain_adaptive_avg_pool",
    "plain_adaptive_avg_pool_backward",
    "plain_adaptive_max_pool",
    "plain_adaptive_max_pool_backward",
    "plain_avg_pool",
    "plain_avg_pool_backward",
    "plain_convolution",
    "plain_input_gradient",
    "plain_instance_norm",
    "plain_instance_norm_backward",
    "plain_local_response_norm",
    "plain_local_response_norm_backward",
    "plain_max_pool",
    "plain_max_pool_backward",
    "plain_max_unpool2d",
    "plain_max_unpool2d_backward",
    "plain_pad",
    "plain_pad_backward",
    "plain_resample",
    "plain_resample_backward",
    "plain_transposed_convolution",
    "plain_transposed_convolution_backward",
    "plain_weight_gradient",
    "read_image",
    "resample",
    "resample_backward",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet50",
    "resnet56",
    "resnet101",
    "resnet152",
    "stretch_contrast",
    "tapped",
    "transposed_convolution",
    "transposed_convolution_backward",
    "unfreeze_batch_norm",
    "write_image",
]
