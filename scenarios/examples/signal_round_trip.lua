-- Sends a signal to the ECU and waits for its answer in another one.
local test, can = require("test"), require("can")

local bus = can.bus() -- the bench's only bus; can.bus("powertrain") where there are several

test.case("engine speed follows the request", function()
  for _, speed in ipairs({ 1500, 3000, 800 }) do
    test.step("request " .. speed .. " rpm")
    bus:send("EngineControl", { TargetSpeed = speed }) -- signals not named take the database's initial value
    -- Decided on the agent, beside the bus: no frame is missed, however slow the network.
    local signals = bus:expect("EngineStatus", { EngineSpeed = test.within(speed, 50) }, "2s")
    test.equal(signals.EngineState, "Running") -- by its name in the value table
  end
end)

test.case("the status message is sent every 20 ms", function()
  local _, before = bus:expect("EngineStatus", nil, "1s")
  local gaps = {}
  for number = 1, 11 do
    local _, at = bus:expect("EngineStatus", nil, "1s") -- each meets the next frame; the second value is its time in s
    gaps[number], before = at - before, at
  end
  table.sort(gaps)
  test.equal(gaps[6], test.between(0.010, 0.050)) -- the middle one: a machine that once stands still does not matter
end)
