-- Writing documents, one a request, and the figures as one line of JSON on stdout.
--   wrk ... -s writes.lua URL -- COLLECTION DOCUMENTS TEXT_BYTES

local path, documents, body

local threads = 0
function setup(thread)
  threads = threads + 1
  thread:set("seed", threads)
end

function init(arguments)
  math.randomseed(seed)
  path = "/v1/collections/" .. arguments[1] .. "/documents/d%07d"
  documents = tonumber(arguments[2])
  body = '{"text":"hello ' .. string.rep("x", tonumber(arguments[3]) - 6) .. '"}'
end

function request()
  return wrk.format("PUT", string.format(path, math.random(documents) - 1), {["Content-Type"] = "application/json"}, body)
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "failed": %d, "p50_ms": %.3f, "p99_ms": %.3f}\n',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
