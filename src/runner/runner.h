/* The runner: one replica of one model.
 *
 * A process that loads one model folder with ONNX Runtime and answers the Open Inference Protocol v2 (JSON and binary
 * tensors) and, for embedding models, OpenAI-compatible embeddings, over a unix socket or TCP. Under the supervisor it
 * reports over the wire; alone (`slipway runner --model DIR --listen ADDR`) it is a complete inference server.
 *
 * Threads: the loop's (HTTP, parsing and tokenising of what is small, answers), one inference thread (batches), ONNX
 * Runtime's own, and libuv's workers (loading, large bodies). May use: base, http, wire. The tour through its files is
 * at the top of runner.c.
 */
#pragma once

/* Why a runner ended; the supervisor reads these. */
enum runner_exit {
    RUNNER_EXIT_OK = 0, /* SIGTERM and a drain, or --help */
    RUNNER_EXIT_USAGE = 2, /* a flag was wrong */
    RUNNER_EXIT_PERMANENT = 3, /* the same model with the same flags would fail the same way */
    RUNNER_EXIT_TRANSIENT = 4, /* trying again can help */
};

/* The role's whole life. argv[0] is the word "runner", flags follow. Returns an enum runner_exit. */
int runner_main(int argc, char **argv);
