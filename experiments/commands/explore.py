"""`dynsim explore`: the regimes as one HTML file with sliders."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from dynsim import InputError, TokenLaw, check_integer, token_law
from experiments.explorer.fields import State
from experiments.output import again, print_json, print_next, print_wrapped, writable_file

from ._options import Json

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]
FILE = Path("dynsim-explorer.html")
HOST, PORT, LAST_PORT = "127.0.0.1", 8080, 65535
OWN_LAWS = ("counts", "corpus", "tokenizer")


@dataclass(frozen=True)
class Explore:
    """Write one HTML file that shows the regimes and needs nothing else, on a laptop or a phone.

    Sliders for sizes, token law, batch, optimizer and age; a regime map, updates and learning-rate
    ratios against the width, tokens by rank, the life of the LV regime and what each rule says.
    Every number comes with the command that gives it. Options are where the sliders stand at first.
    Writing takes about ten seconds, in which all formulas are derived.
    """

    out: Path = FILE
    """file to write"""
    serve: Switch = False
    """serve the page to this machine's browsers, until Ctrl-C, in place of writing a file"""
    port: int = PORT
    """port of --serve; 0 takes a free one"""
    width: int = State.width
    """width d"""
    vocab_size: int | None = None
    """vocabulary size m (default: all types of a counts or tokenizer file, else 32768)"""
    tokens: str = State.tokens
    """token law: uniform, zipf:ALPHA, counts:FILE, tokenizer:FILE, corpus or corpus:PATH; counts of
    a file or a corpus are put into the page"""
    batch_size: int = State.batch_size
    """tokens per batch, 0 for the full batch"""
    outputs: int = State.outputs
    """independent directions of the residuals (1: one output)"""
    optimizer: Literal["sign", "adam", "sgd", "muon"] = "sign"
    """whose updates"""
    init: Literal["mup", "sp"] = "mup"
    """standard deviation of the projection's entries: mup 1/width, sp 1/sqrt(width)"""
    embedding_lr: float = State.embedding_lr
    """learning rate of the embedding, in its initial standard deviations"""
    steps: int = State.steps
    """which update is looked at, 1 the first; those before it have moved the embedding"""
    base_width: int = State.base_width
    """width at which learning rates were tuned"""
    json: Json = False

    def run(self) -> int:
        """Writes or serves the page, and says where."""
        check_integer("port", self.port, 0, LAST_PORT)
        state, law = self._state()
        if not self.serve:
            writable_file("out", self.out)
        from experiments.explorer.page import fragment, page
        from experiments.precision import enable_x64

        enable_x64()
        if self.serve:
            server = _server(self.port)  # a port that is taken is said before the page is made
            with server:
                return self._serve(server, page(state, law).encode(), fragment(state))
        from experiments.results import write_file

        content = page(state, law).encode()
        write_file(self.out, content)
        if self.json:
            print_json({"file": self.out, "bytes": len(content), "state": vars(state)})
        else:
            print_wrapped(
                f"{self.out} ({len(content) / 1e6:.1f} MB) shows the regimes; its sliders start at "
                f"width {state.width} and vocabulary {state.vocab_size}. Open it in a browser, no "
                "network needed."
            )
            print_next("the same at an address of this machine", again("--serve"))
        return 0

    def _state(self) -> tuple[State, TokenLaw | None]:
        """Where the sliders stand, and counts for the page. Raises `InputError`."""
        given = {field.name: getattr(self, field.name) for field in fields(State)}
        own = self.tokens.partition(":")[0] in OWN_LAWS
        if self.vocab_size is None:
            given["vocab_size"] = State.vocab_size
        state = State(**given)
        if not own:
            return state, None
        exact = self.tokens.startswith("corpus") or self.vocab_size is not None
        law = token_law(self.tokens, state.vocab_size if exact else None)
        return State(**{**given, "vocab_size": law.vocab_size}), law

    def _serve(self, server: ThreadingHTTPServer, content: bytes, state: str) -> int:
        from experiments.explorer.serving import serve

        address = f"http://{HOST}:{server.server_port}/#{state}"
        if self.json:
            print_json({"address": address, "bytes": len(content)})
        else:
            print(f"{address}\nCtrl-C ends it.", flush=True)
        return serve(server, content)


def _server(port: int) -> ThreadingHTTPServer:
    """A server on this machine's own address. Raises `InputError` for a port that is taken."""
    from experiments.explorer.serving import loopback

    try:
        return loopback(HOST, port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError("port", port, f"cannot be listened to ({reason}); take 0") from None
