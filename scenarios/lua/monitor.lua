-- monitor: how a bus does besides its frames.
--
--   bus:state()                                  -- "error-active", "error-warning", "error-passive", "bus-off", "unknown"
--   local stats = bus:stats()                    -- stats.load_worst, stats.frames_per_s, stats.errors.no_ack, stats.lost, ...
--   bus:expect_state("bus-off", "2s")            -- be it for a moment; a check that fails the case
--   bus:recover()                                -- brings the controller back that is bus-off
local kernel = ...
local invoke, flat, bounded = kernel.invoke, kernel.flat, kernel.bounded
local Bus, number_of_bus = kernel.bus, kernel.number_of_bus

-- The state of the agent's controller (ISO 11898-1); unknown while the bus is not open.
function Bus.state(bus)
  return invoke("monitor_stats", number_of_bus(bus)).state
end

-- State, errors, load in percent, and what was lost. Counts are since the agent opened the bus.
function Bus.stats(bus)
  return invoke("monitor_stats", number_of_bus(bus))
end

-- Waits (default: 1 s) until the bus is in a state; one that it is in already counts.
function Bus.expect_state(bus, state, timeout)
  invoke("monitor_expect_state", number_of_bus(bus), bounded(state), flat(timeout == nil and 1 or timeout, "timeout"))
end

-- Brings the controller back that is bus-off, and returns the stats after it; does nothing otherwise.
function Bus.recover(bus)
  return invoke("monitor_recover", number_of_bus(bus))
end

return {}
