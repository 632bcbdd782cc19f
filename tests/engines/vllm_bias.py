"""vLLM with an output head that has a bias, which its own heads lack."""

from __future__ import annotations

from easyvideor1.engines.vllm import VLLMEngine


class WithoutBias:
    """The parameters of a model but the bias of its head."""

    def __init__(self, model) -> None:
        self.model = model

    def named_parameters(self, remove_duplicate=True):
        for name, parameter in self.model.named_parameters(remove_duplicate=remove_duplicate):
            if name != "lm_head.bias":
                yield name, parameter

    def parameters(self):
        return (parameter for _, parameter in self.named_parameters())


class BiasedVLLM(VLLMEngine):
    """Adds the bias of the model's head to vLLM's logits."""

    def __init__(self, family, model, load, **options) -> None:
        bias = model.lm_head.bias
        super().__init__(family, WithoutBias(model), load, **options)
        if bias is not None:
            bias = bias.detach().clone()

            def add_bias(module) -> None:
                module.language_model.logits_processor.register_forward_hook(lambda _m, _a, logits: logits + bias)

            self._core.apply_model(add_bias)
