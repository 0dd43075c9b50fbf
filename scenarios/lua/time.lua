-- time: clocks and waiting. Durations are '500ms', '2s', '1m' or a number of seconds.
local kernel = ...
local invoke = kernel.invoke

local time = {}

-- Seconds since the Unix epoch.
function time.now()
  return invoke("now")
end

-- Seconds on a clock that is never set: for measuring how long something takes.
function time.monotonic()
  return invoke("monotonic")
end

function time.sleep(duration)
  if duration == nil then
    kernel.fail("invalid", "time.sleep needs a duration, for example '100ms'")
  end
  local left = kernel.flat(duration, "duration")
  while left do -- a notice of the lease's end interrupts it
    left = invoke("sleep", left)
  end
end

return time
