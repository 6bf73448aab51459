import check_primitives
import pytest


@pytest.mark.parametrize(
    "code",
    [
        "import torch.nn",
        "import torch.nn as n\nn.Linear",
        "import torch.nn.functional as F",
        "from torch import nn",
        "from torch import nn as layers",
        "from torch.nn import Linear",
        "from torch.nn.functional import relu as r",
        "from torch.optim import Adam",
        "from torch.autograd import Function",
        "from torch import *",
        "import torch\ntorch.nn.functional.relu(x)",
        "import torch as t\nt.autograd.grad(y, x)",
        "import torch\ngetattr(torch, 'nn')",
        "import torch\nt = torch\nt.nn",
        "import torch\nvars(torch)['softmax']",
        "import torch\ntorch.__dict__['softmax']",
        "import sys\nsys.modules['torch.nn']",
        "__import__('torch.nn.functional')",
        "import importlib\nimportlib.import_module('torch.optim')",
        "import torch\ntorch.softmax(x, 0)",
        "import torch\ny = torch.sigmoid",
        "from torch import tanh",
        "import torch\ntorch.relu(x)",
        "import torch\ntorch.var_mean(x)",
        "import torch\ntorch.logsumexp(x, 0)",
        "import torch\ntorch.layer_norm(x, (3,))",
        "import torch\ntorch.dropout(x, 0.5, True)",
        "import torch\ntorch.conv2d(x, w)",
        "import torch\ntorch.special.expit(x)",
        "import torch\ntorch.ops.aten.softmax(x)",
        "import torch\ntorch._C._nn.gelu(x)",
        "import torch\ntorch.distributed.nn.all_reduce(x)",
        "from torch import Tensor\nTensor.softmax(x, 0)",
        "import torch\nlist(map(torch.Tensor.relu, xs))",
        "def f(x): return x.softmax(0)",
        "def f(x): return x.exp().std()",
        "def f(self): return self.weight.sigmoid()",
        "def f(x): return (x + 1).tanh_()",
        "def f(x): return x.layers[0].relu()",
        "def f(x): return getattr(x, 'softmax')(0)",
        "import operator\noperator.methodcaller('logsumexp', 0)",
        "import torch\nfrom torch.utils.checkpoint import checkpoint",
        "from functorch import grad",
        "def forward(x): return x.numpy()",
        "import numpy as np\ndef relu_backward(dy, x): return dy",
    ],
)
def test_catches(plant, code):
    root = plant({"ds-cnn/src/ds_cnn/a.py": code})
    found = list(check_primitives.check(root))
    assert found
    assert all(fault.startswith("packages/ds-cnn/src/ds_cnn/a.py:") for fault in found)


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch.exp(x) + torch.mm(a, b).reshape(3)",
        "import torch\nx = torch.tensor(1, dtype=torch.float32, device=torch.device('cpu'))",
        "from torch import Tensor\ndef f(x: Tensor) -> Tensor: return x.sum(0).to(x.dtype)",
        "import torch\ntorch.cuda.is_available() and torch.compile(f)",
        "import math\nmath.ceil(2.5) + math.tanh(1.0)",
        "class A:\n    def forward(self, x): return self.dropout(self.norm.forward(x))",
        "from ds_cnn.functions import softmax\nsoftmax(x)",
        "import numpy as np\nx = np.tanh(3)",
        '"""As torch.nn.AvgPool2d does."""',
    ],
)
def test_lets_through(plant, code):
    assert list(check_primitives.check(plant({"ds-cnn/src/ds_cnn/a.py": code}))) == []


def test_the_bridge_and_the_oracle_are_exempt_and_no_other_file_of_that_name(plant):
    code = "from torch import nn"
    assert list(check_primitives.check(plant({"ds-core/src/ds_core/interop.py": code}))) == []
    assert list(check_primitives.check(plant({"ds-core/src/ds_core/testing/layer.py": code}))) == []
    assert list(check_primitives.check(plant({"ds-core/src/ds_core/testing/recipe/check.py": code}))) == []
    others = ["ds_cnn/interop.py", "ds_core/testing/x.py", "packages/ds-core/src/ds_core/interop.py"]
    root = plant({f"ds-cnn/src/{name}": code for name in others})
    found = list(check_primitives.check(root))
    assert sorted(found) == sorted(f"packages/ds-cnn/src/{name}:1: torch.nn: a black box" for name in others)


def test_the_one_exception_holds_in_its_file_alone(plant):
    code = "import torch\n\n\ndef orthogonal_(tensor):\n    return torch.linalg.qr(tensor)[0]\n"
    assert list(check_primitives.check(plant({"ds-core/src/ds_core/initializers/orthogonal.py": code}))) == []
    (found,) = check_primitives.check(plant({"ds-core/src/ds_core/layers/orthogonal.py": code}))
    assert "torch.linalg.qr: not a primitive" in found
