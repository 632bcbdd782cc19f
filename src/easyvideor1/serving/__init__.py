"""An OpenAI-compatible server over a checkpoint and an engine, and what answers one question on the command line.

Requests are read by ``chat_requests``, their media by ``request_media``, and become prompts in ``conversations``. One
thread owns the engine (``engine_thread``); ``app`` speaks HTTP, ``server`` opens and closes everything.
"""
