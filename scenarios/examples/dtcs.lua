-- Reads the stored trouble codes, clears them, and makes sure that they are gone.
local test, uds, log = require("test"), require("uds"), require("log")

local ecu = uds.ecu()

test.case("stored trouble codes can be read and cleared", function()
  local stored = ecu:dtcs()
  test.step("before clearing: " .. #stored .. " trouble codes")
  for _, dtc in ipairs(stored) do
    log.info("%s  status 0x%02X%s", dtc.code, dtc.status, dtc.confirmed and "  confirmed" or "")
    test.matches(dtc.code, "^[PCBU]%x%x%x%x")
  end

  -- Clearing may take the ECU longer than P2; "response pending" on the way is waited for.
  ecu:clear_dtcs()
  test.equal(#ecu:dtcs(0x08), 0, "confirmed codes after clearing") -- 0x08: mask of the status bit "confirmed"
end)
