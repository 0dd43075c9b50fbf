-- How a tester copes with an ECU that misbehaves: the simulated ECU does so on purpose.
local test, uds, sim = require("test"), require("uds"), require("sim")

local ecu, simulated = uds.ecu(), sim.ecu()

test.case("an ECU that needs time is waited for", function()
  simulated:fault{ kind = "pending", service = 0x22, count = 3, delay_ms = 100, times = 1 }
  test.equal(ecu:read("VIN"), "WVWZZZ1KZ6W000001")
end)

test.case("an ECU that says nothing, or no, is told apart", function()
  local silence = simulated:fault{ kind = "no_answer", service = 0x22 }
  local _, problem = pcall(ecu.read, ecu, "VIN")
  test.equal(problem.kind, "timeout")
  simulated:clear(silence)

  simulated:fault{ kind = "nrc", service = 0x22, nrc = 0x22, times = 1 }
  _, problem = pcall(ecu.read, ecu, "VIN")
  test.equal(problem.nrc_name, "conditionsNotCorrect")
  test.equal(ecu:read("VIN"), "WVWZZZ1KZ6W000001")
end)

test.case("a lost frame is an error, never half a value", function()
  simulated:fault{ kind = "drop_frame", frame = 1, times = 1 }
  local ok, problem = pcall(ecu.read, ecu, "VIN")
  test.equal(ok, false, "a value in spite of the lost frame")
  test.step("the tester says: " .. problem.message)
  test.equal(ecu:read("VIN"), "WVWZZZ1KZ6W000001")
end)
