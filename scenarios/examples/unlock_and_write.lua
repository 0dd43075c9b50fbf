-- Writes a protected data identifier: extended session, security access, write, read back.
local test, uds = require("test"), require("uds")

local ecu = uds.ecu()

test.case("the repair shop code is protected", function()
  ecu:session("extended")
  test.negative("securityAccessDenied", function() ecu:write("RepairShopCode", "WORKSHOP-1") end)
end)

test.case("after unlocking it can be written", function()
  ecu:session("extended")
  test.step("unlock security level 1")
  ecu:unlock(1) -- the key comes from the ECU's description; see unlock(level, function(seed) return key end)
  local before = ecu:read("RepairShopCode")
  ecu:write("RepairShopCode", "WORKSHOP-1")
  test.equal(ecu:read("RepairShopCode"), "WORKSHOP-1")
  ecu:write("RepairShopCode", before) -- leave it as it was
end)

test.case("leaving the session locks it again", function()
  ecu:session("default")
  ecu:session("extended")
  test.negative(0x33, function() ecu:write("RepairShopCode", "WORKSHOP-2") end)
  ecu:session("default")
end)
