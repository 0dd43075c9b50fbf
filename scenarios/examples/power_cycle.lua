-- Battery off and on: without power the ECU is silent, with it it boots, and says so on its serial console.
local test, uds, serial, power = require("test"), require("uds"), require("serial"), require("power")

local ecu, console = uds.ecu(), serial.console()
local battery = power.channel("kl30")

test.case("the ECU boots when the battery comes", function()
  battery:off()
  test.equal(battery:measure().current, 0, "current without voltage, in A")
  local _, problem = pcall(ecu.read, ecu, "VIN")
  test.equal(problem.kind, "timeout", "what comes of asking without power")

  battery:on()
  local _, captures = console:expect("Application (\\d+): checksum ok", "10s")
  test.step("software " .. captures[1] .. " has started")
  console:expect("> ", "10s")
  test.equal(ecu:read("VIN"), "WVWZZZ1KZ6W000001")
  test.near(battery:measure().current, 0.35, 0.3, "current of the running ECU, in A")
end)

test.case("a brown-out resets the ECU, a dip does not", function()
  ecu:session("extended")
  battery:profile{ { 0, 13.5 }, { 20, 8 }, { 60, 13.5 } }
  battery:set{ voltage = 9 }
  test.near(ecu:read("BatteryVoltage"), 9, 0.02, "what the ECU measures, in V")
  battery:profile{ { 0, 13.5 }, { 20, 5.5 }, { 400, 5.5 }, { 420, 13.5 } }
  console:expect("Boot ROM", "10s")
  console:expect("> ", "10s")
end)
