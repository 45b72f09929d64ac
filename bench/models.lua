-- wrk: POSTs a kilobyte for a target model that is drawn at random, the same ones in every run.
-- Prints one line of JSON at the end.
local requests = {}

function init(_)
  math.randomseed(1)
  local body = string.rep("y", 1024)
  for number = 1, tonumber(os.getenv("N_MODELS")) do
    requests[number] = wrk.format("POST", nil, {
      ["Content-Type"] = "application/octet-stream",
      ["X-Amzn-SageMaker-Target-Model"] = "model-" .. number .. ".tar.gz",
    }, body)
  end
end

function request()
  return requests[math.random(#requests)]
end

function done(summary, latency, _)
  local errors = summary.errors
  local bad = errors.status + errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    '\nJSON {"n": %d, "seconds": %.6f, "p50_ms": %.4f, "p99_ms": %.4f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, bad))
end
