-- Who are you? Reads an ECU's identification, by name and as raw bytes.
local test, uds, log = require("test"), require("uds"), require("log")

local ecu = uds.ecu() -- the bench's only ECU; uds.ecu("ECM") where there are several

test.case("the VIN is well-formed", function()
  local vin = ecu:read("VIN")
  log.info("VIN %s", vin)
  -- ISO 3779: 17 characters, letters I, O and Q excluded.
  test.matches(vin, "^[0-9A-HJ-NPR-Z]+$")
  test.equal(#vin, 17)
end)

test.case("part number, software and serial number are there", function()
  local id = ecu:read({ "PartNumber", "SoftwareVersion", "SerialNumber" }) -- one request, three answers
  for name, value in pairs(id) do
    log.info("%s = %s", name, value)
  end
  test.matches(id.SoftwareVersion, "^%d%d%d%d$")
  test.matches(id.SerialNumber, "^%x+$") -- raw bytes come as hexadecimal text
end)

test.case("name and number mean the same data", function()
  test.equal(ecu:read(0xF190), ecu:read("VIN"))
  test.matches(ecu:raw("22 F1 90"), "^62F190") -- the bytes on the bus: positive response, identifier, data
end)
