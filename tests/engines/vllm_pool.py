"""vLLM as the tests of the contract open it: often, and with output heads that have a bias, which its own lack."""

from __future__ import annotations

from collections import defaultdict

from easyvideor1.engines.vllm import VLLMEngine

#: Cores that no engine uses, by what they were opened with. To load weights into one takes a moment, to start another
#: takes seconds.
IDLE = defaultdict(list)


class WithoutBias:
    """The parameters of a model but those of its head, whose weights are the embeddings'."""

    def __init__(self, model) -> None:
        self.model = model

    def named_parameters(self, remove_duplicate=True):
        for name, parameter in self.model.named_parameters(remove_duplicate=remove_duplicate):
            if not name.startswith("lm_head."):
                yield name, parameter

    def named_modules(self):
        return self.model.named_modules()

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
        super().__init__(family, model if bias is None else WithoutBias(model), load, **options)
        if bias is not None:
            bias = bias.detach().clone()
            (self._hook,) = self._core.apply_model(
                lambda module: module.language_model.logits_processor.register_forward_hook(
                    lambda _module, _args, logits: logits + bias
                )
            )

    @property
    def _idle(self):
        return IDLE[self._checkpoint, self._dtype, self._batch_tokens, self._intake.adapters]

    def _open_core(self) -> None:
        if self._idle:
            self._core = self._idle.pop()
        else:
            super()._open_core()

    def _close_core(self) -> None:
        if self._hook is not None:
            self._hook.remove()
        if self._intake.incomplete is not None:
            super()._close_core()
        elif self._core is not None:
            self._count()
            self._idle.append(self._core)
            self._core = None
