-- Sends a signal to the ECU and waits for its answer in another one.
local test, can, time = require("test"), require("can"), require("time")

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

test.case("the status message keeps its period", function()
  bus:expect("EngineStatus", nil, "200ms")
  local started = time.monotonic()
  for _ = 1, 10 do
    bus:expect("EngineStatus", { CoolantTemp = test.above(-40) }, "200ms")
  end
  -- Every 20 ms; generous, since an expect may wait for up to one period more than it has to.
  test.equal(time.monotonic() - started, test.between(0.1, 1.0))
end)
