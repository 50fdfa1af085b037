-- The load: POST /v1/embeddings with one text a request, and the figures as one line of JSON on stdout.
--   wrk ... -s requests.lua URL -- FORM TEXT...
-- FORM: base64 or float (of /v1/embeddings), v2 (JSON) or v2binary (binary tensor out), or of a peer. Several TEXTs take
-- turns. A FORM that begins with "/" is a path to GET.

local bodies, next_body = {}, 0

local forms = {
  base64 = {"/v1/embeddings", '{"model":"minilm","input":"%s","encoding_format":"base64"}'},
  float = {"/v1/embeddings", '{"model":"minilm","input":"%s","encoding_format":"float"}'},
  v2 = {"/v2/models/minilm/infer", '{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":["%s"]}]}'},
  v2binary = {"/v2/models/minilm/infer",
              '{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":["%s"]}],' ..
              '"outputs":[{"name":"embedding","parameters":{"binary_data":true}}]}'},
  metadata = {"/v2/models/minilm", nil},
  embed = {"/embed", '{"input":"%s"}'}, -- peers whose routes their makers leave to the user
  embed_list = {"/embed", '{"input":["%s"]}'},
  embeddings = {"/embeddings", '{"model":"minilm","input":"%s"}'},
}

function init(arguments)
  local path, body = unpack(forms[arguments[1]] or {arguments[1], nil})
  local headers = {["Content-Type"] = "application/json"}
  if not body then
    bodies[1] = wrk.format("GET", path)
    return
  end
  for i = 2, #arguments do
    bodies[i - 1] = wrk.format("POST", path, headers, string.format(body, arguments[i]))
  end
end

function request()
  next_body = next_body % #bodies + 1
  return bodies[next_body]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "failed": %d, "p50_ms": %.3f, "p99_ms": %.3f}\n',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
