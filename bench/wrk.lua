-- Drives wrk with the bytes in the file $REQUEST, as they are, and prints what it saw as JSON.
local file = assert(io.open(os.getenv("REQUEST"), "rb"))
local bytes = file:read("*a")
file:close()

-- wrk asks this once, and counts each of several pipelined requests by its answer.
wrk.format = function() return bytes end

done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\nJSON {"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"closed":%d,"errors":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    errors.read, errors.connect + errors.write + errors.timeout + errors.status))
end
