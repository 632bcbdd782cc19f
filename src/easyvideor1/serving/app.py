"""The HTTP side: routes, bodies, answers and streams of answers."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from easyvideor1.engines.engine import Result
from easyvideor1.serving import replies
from easyvideor1.serving.engine_thread import Job
from easyvideor1.serving.errors import RequestError
from easyvideor1.serving.fields import Fields
from easyvideor1.serving.growing_text import GrowingText
from easyvideor1.serving.preparation import Prepared, refusal
from easyvideor1.serving.service import ClientGoneError, Mailbox, Service
from easyvideor1.types import ConfigError, DataError, EasyVideoError, MediaError

_LOG = logging.getLogger(__name__)

#: Seconds in which a body must arrive, and the rest of one that is too long is read, so that its sender gets to the
#: answer.
_BODY_SECONDS, _DISCARD_SECONDS = 120.0, 10.0
#: Seconds in which a client must take an error.
LAST_WORDS_SECONDS = 5.0

_STREAM_HEADERS = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))


def build_app(service: Service, threads: Executor) -> Starlette:
    """The application.

    Args:
        service: what it serves.
        threads: in which requests are prepared.
    """

    async def health(request: Request) -> Response:
        # Anybody may ask: what the engine says of its failure, which may name paths, stands in the log alone.
        if service.draining:
            return JSONResponse({"status": "shutting down"}, status_code=503)
        if not service.engine.alive or service.engine.failing:
            status = "the engine does not work; the log of the server says why"
            return JSONResponse({"status": status}, status_code=503)
        return JSONResponse({"status": "ok", "active": service.active})

    async def models(request: Request) -> Response:
        service.check_caller(request.headers)
        own = {"id": service.name, "object": "model", "created": started, "owned_by": "easyvideor1"}
        wanted = request.path_params.get("model")
        if wanted not in (None, service.name):
            what = f"there is no model {str(wanted)[:80]!r}; this server has {service.name!r}"
            raise RequestError(what, status=404, param="model", code="model_not_found")
        return JSONResponse(own if wanted else {"object": "list", "data": [own]})

    async def metrics(request: Request) -> Response:
        service.check_caller(request.headers)
        return PlainTextResponse(service.metrics(), media_type="text/plain; version=0.0.4")

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)
        return JSONResponse(error.body(), error.status, _headers_of(error))

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        what = f"{request.method} {request.url.path[:80]}: {error.detail}; see docs/serving.md"
        return JSONResponse(RequestError(what, status=error.status_code).body(), error.status_code, error.headers)

    started = int(time.time())
    return Starlette(
        routes=[
            Route("/health", health),
            Route("/metrics", metrics),
            Route("/v1/models", models),
            Route("/v1/models/{model:path}", models),
            Route("/v1/chat/completions", _ChatCompletions(service, threads), methods=["POST"]),
        ],
        exception_handlers={RequestError: refused, HTTPException: unknown},
    )


def _headers_of(error: RequestError) -> dict[str, str]:
    if error.status in (429, 503):
        return {"Retry-After": "1"}
    return {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}


class _Sender:
    """One answer on its way: whole, or a stream of events."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def whole(
        self, fields: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status = status
        body = JSONResponse(fields, status, headers)
        await self._send({"type": "http.response.start", "status": status, "headers": body.raw_headers})
        await self._send({"type": "http.response.body", "body": body.body})

    async def events(self, events: Iterable[Fields]) -> None:
        for fields in events:
            await self._data(replies.event(fields))

    async def _data(self, data: bytes) -> None:
        if not self.status:
            self.status = 200
            await self._send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        await self._data(replies.DONE)
        await self._send({"type": "http.response.body", "body": b""})

    async def fail(self, error: RequestError) -> None:
        """Tell of an error: as the answer, or as the last event of one that has begun."""
        begun, self.status = bool(self.status), error.status
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                if begun:
                    await self.events([error.body()])
                    await self.end()
                else:
                    close = {"Connection": "close"} if error.status == 413 else {}
                    await self.whole(error.body(), error.status, {**_headers_of(error), **close})
        except TimeoutError:
            return  # the client reads nothing; its connection is closed


class _ChatCompletions:
    """``POST /v1/chat/completions``."""

    def __init__(self, service: Service, threads: Executor) -> None:
        self._service = service
        self._threads = threads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sender, began = _Sender(send), time.monotonic()
        counts: dict[str, int] = {}
        try:
            try:
                async with asyncio.timeout(self._service.limits.seconds):
                    await self._answer(Request(scope, receive), sender, counts)
            except TimeoutError:
                what = f"the request took longer than {self._service.limits.seconds:g} s"
                await sender.fail(RequestError(what, status=503, code="timeout"))
            except RequestError as error:
                await sender.fail(error)
            except (ClientGoneError, ClientDisconnect):
                sender.status = 499  # nobody is there to be told; the number is nginx's
            except Exception:  # noqa: BLE001 - logged, and told without what it says
                _LOG.exception("a request failed")
                await sender.fail(RequestError("the server failed; its log says why", status=500, code="failed"))
        finally:
            self._service.answered[sender.status] += 1
            self._service.tokens.update(counts)
            spent = time.monotonic() - began
            _LOG.info(
                "%s %d+%d tokens %.2f s", sender.status, counts.get("prompt", 0), counts.get("completion", 0), spent
            )

    async def _answer(self, request: Request, sender: _Sender, counts: dict[str, int]) -> None:
        self._service.check_caller(request.headers)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # what a page of another site can send without being asked is refused
            raise RequestError("send the body with Content-Type: application/json", code="invalid_content_type")
        self._service.take_place()
        with ExitStack() as ending:
            ending.callback(self._service.leave_place)
            directory = Path(tempfile.mkdtemp(prefix="request-", dir=self._service.scratch))
            ending.callback(shutil.rmtree, directory, ignore_errors=True)
            preparing = await self._preparing(request, directory)
            # A thread cannot be ended: place and directory are its own until it is done.
            after = ending.pop_all()
        try:
            prepared = await asyncio.shield(preparing)
            counts["prompt"] = len(prepared.request.prompt)
            await self._generate(request, prepared, sender, counts)
        finally:
            _when_done(preparing, after.close)

    async def _preparing(self, request: Request, directory: Path) -> asyncio.Future[Prepared]:
        """Read the body and begin to prepare its request; the bytes of the body are counted until that is done."""
        body = await _body(request, self._service)
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._service.prepare, body, directory)
        size = len(body)
        work.add_done_callback(lambda _: self._service.hold(-size))
        return work

    async def _generate(self, request: Request, prepared: Prepared, sender: _Sender, counts: dict[str, int]) -> None:
        chat, mailbox = prepared.chat, Mailbox()
        job = Job(prepared.request, mailbox.tell, wants_partial=chat.stream and not chat.logprobs)
        watch = asyncio.create_task(_gone(request))
        watch.add_done_callback(lambda _: mailbox.leave())
        reply = replies.Reply(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), self._service.name)
        try:
            with self._service.asked(job, mailbox):
                if chat.stream:
                    await self._stream(mailbox, prepared, reply, sender, counts)
                else:
                    result = self._checked(await mailbox.next(), prepared)
                    counts["completion"] = sum(each.response_tokens for each in result.trajectories)
                    choices = [
                        replies.choice(index, each.last, chat.sampling.stop, self._logprobs(prepared, each.last))
                        for index, each in enumerate(result.trajectories)
                    ]
                    usage = replies.usage(prepared.request.prompt, result.trajectories)
                    await sender.whole(reply.completion(choices, usage))
        finally:
            watch.cancel()

    async def _stream(
        self, mailbox: Mailbox, prepared: Prepared, reply: replies.Reply, sender: _Sender, counts: dict[str, int]
    ) -> None:
        chat, family = prepared.chat, self._service.family
        texts = [GrowingText(family.tokenizer, chat.sampling.stop, family.stop_token_ids) for _ in range(chat.n)]
        roles = [reply.chunk(index, {"role": "assistant", "content": ""}) for index in range(chat.n)]
        while not isinstance(event := await mailbox.next(), Result | EasyVideoError):
            if not any(map(len, event)):
                continue  # a fault that comes before the first token is a status
            if not sender.status:
                await sender.events(roles)
            pieces = [text.grow(ids) for text, ids in zip(texts, event, strict=True)]
            await sender.events(reply.chunk(i, {"content": piece}) for i, piece in enumerate(pieces) if piece)
        result = self._checked(event, prepared)
        logprobs = [self._logprobs(prepared, each.last) for each in result.trajectories]
        if not sender.status:
            await sender.events(roles)
        counts["completion"] = sum(each.response_tokens for each in result.trajectories)
        for index, (text, each) in enumerate(zip(texts, result.trajectories, strict=True)):
            if (piece := text.finish(each.text)) or logprobs[index]:
                await sender.events([reply.chunk(index, {"content": piece}, logprobs=logprobs[index])])
            await sender.events([reply.chunk(index, {}, finish=each.finish)])
        if chat.include_usage:
            await sender.events([reply.usage_chunk(replies.usage(prepared.request.prompt, result.trajectories))])
        await sender.end()

    def _checked(self, event: object, prepared: Prepared) -> Result:
        """A result without a fault.

        Raises:
            RequestError: the request, or the engine, failed.
        """
        fault = event.fault if isinstance(event, Result) else event
        if isinstance(fault, ConfigError):  # an engine refuses what it cannot do
            fault = DataError(str(fault))
        if isinstance(fault, RequestError | DataError | MediaError):
            raise refusal(fault, prepared.media)
        if fault is not None:
            _LOG.error("a request failed: %s", fault)
            raise RequestError("the engine failed; the log of the server says why", status=503, code="engine_failed")
        assert isinstance(event, Result)
        return event

    def _logprobs(self, prepared: Prepared, turn: Any) -> dict[str, Any] | None:
        if not prepared.chat.logprobs:
            return None
        family, stop = self._service.family, prepared.chat.sampling.stop
        try:
            return replies.token_logprobs(family.tokenizer, turn, stop, family.stop_token_ids)
        except ValueError:
            what = (
                "this engine has no log-probs for these parameters; leave out logprobs, or top_p, top_k and penalties"
            )
            raise RequestError(what, param="logprobs", code="unsupported_value") from None


async def _body(request: Request, service: Service) -> bytes:
    """The body, whose bytes are counted as held.

    Raises:
        RequestError: it is longer than the limit, does not come, or others hold too much. Nothing is counted then.
    """
    limit, content, held = service.limits.body_bytes, bytearray(), 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            declared = request.headers.get("content-length", "")
            too_long = declared.isdecimal() and int(declared) > limit
            pieces = aiter(request.stream())
            while not too_long and (piece := await anext(pieces, None)) is not None:
                service.hold(len(piece))
                held += len(piece)
                content += piece
                too_long = held > limit
        if too_long:
            content.clear()
            await _discard(request)
            what = f"the body is longer than {limit >> 20} MiB; send a shorter clip, or a path below a media root"
            raise RequestError(what, status=413, code="body_too_long")
    except BaseException as error:
        service.hold(-held)
        if isinstance(error, TimeoutError):
            what = f"the body did not arrive within {_BODY_SECONDS:g} s"
            raise RequestError(what, code="slow_body") from None
        raise
    return bytes(content)


async def _discard(request: Request) -> None:
    """Read what is still coming, for a while: a sender that is cut off would not read the answer."""
    until = asyncio.get_running_loop().time() + _DISCARD_SECONDS
    try:
        async with asyncio.timeout_at(until):
            more = True
            while more:
                message = await request.receive()
                more = message["type"] == "http.request" and message.get("more_body", False)
    except TimeoutError:
        return


async def _gone(request: Request) -> None:
    """Return when the client closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _when_done(work: asyncio.Future[Any], then: Callable[[], object]) -> None:
    """Call ``then`` once a thread has ended its work, whose error is looked at or of no interest any more."""
    if work.done():
        then()
        return

    def ended(done: asyncio.Future[Any]) -> None:
        if not done.cancelled():
            done.exception()
        then()

    work.add_done_callback(ended)
