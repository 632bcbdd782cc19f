"""vLLM as the tests of the contract open it: often, and with output heads that have a bias, which its own lack."""

from __future__ import annotations

from easyvideor1.engines.vllm import VLLMEngine

#: Cores that no engine uses. To load weights into one takes a moment, to start another takes seconds.
IDLE = []


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


class PooledVLLM(VLLMEngine):
    """Takes an idle core if there is one, and adds the bias of the model's head to its logits.

    A core that is taken up again has the weights of another model until they are replaced, and caches that must have
    been emptied: each test checks this, too.
    """

    def __init__(self, family, model, load, **options) -> None:
        bias = model.lm_head.bias
        self._hook = None
        super().__init__(family, WithoutBias(model), load, **options)
        if bias is not None:
            bias = bias.detach().clone()
            (self._hook,) = self._core.apply_model(
                lambda module: module.language_model.logits_processor.register_forward_hook(
                    lambda _module, _args, logits: logits + bias
                )
            )

    def _open_core(self) -> None:
        if IDLE:
            self._core = IDLE.pop()
        else:
            super()._open_core()

    def _close_core(self) -> None:
        if self._hook is not None:
            self._hook.remove()
        if self._incomplete is not None:
            super()._close_core()
        elif self._core is not None:
            IDLE.append(self._core)
            self._core = None
