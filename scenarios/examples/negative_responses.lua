-- What an ECU must refuse, it must refuse with the right code (ISO 14229-1, negative response codes).
local test, uds, log = require("test"), require("uds"), require("log")

local ecu = uds.ecu()

test.case("an unknown data identifier is out of range", function()
  local err = test.negative("requestOutOfRange", function() ecu:read(0x0001) end)
  log.info("the ECU said: %s", err.message)
  test.equal(err.service_name, "ReadDataByIdentifier")
end)

test.case("security access needs another session", function()
  ecu:session("default")
  test.negative("serviceNotSupportedInActiveSession", function() ecu:unlock(1) end)
end)

test.case("a wrong key is invalid", function()
  ecu:session("extended")
  test.negative("invalidKey", function()
    ecu:unlock(1, function(seed) return string.rep("00", #seed // 2) end)
  end)
  -- An ECU counts wrong keys, across runs too, and locks out after a few; the right one sets its counter back.
  ecu:unlock(1)
  ecu:session("default")
end)

test.case("malformed requests get the code of the standard", function()
  local expected = {
    ["10"] = "7F1013", -- too short
    ["10 05"] = "7F1012", -- no such session
    ["3E 00 00"] = "7F3E13", -- too long
    ["BA"] = "7FBA11", -- no such service
  }
  for request, response in pairs(expected) do
    test.equal(ecu:raw(request), response, "answer to " .. request)
  end
end)

test.case("errors can be handled in the scenario", function()
  local ok, err = pcall(function() return ecu:read(0x0001) end)
  test.is_true(not ok)
  test.equal(err.nrc, 0x31)
  test.equal(err.service, 0x22)
end)
