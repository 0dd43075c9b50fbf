-- sim: control of the bench's simulated ECUs: what screwdriver, power supply and debugger are to a real one. At the end
-- of the run every ECU is as its description says again. A real ECU is refused.
--
--   local ecm = sim.ecu("ECM")                      -- sim.ecu() if only one of the bench is simulated
--   local n = ecm:fault{ kind = "nrc", service = 0x22, nrc = 0x22, times = 1 }
--   ecm:clear(n)            ecm:clear()             -- one fault, or all; returns how many were in force
--   ecm:set("BatteryVoltage", 9.5)                  -- a data identifier's value
--   ecm:signal("EngineStatus", "EngineSpeed", 3000) -- of a message that the ECU sends
--   ecm:message("EngineStatus", false)              -- stops a message that it sends; true lets it go on
--   ecm:dtc("P0301", "failed")                      -- or "passed", or a fault detection counter (-128 .. 127)
--   ecm:cycle()                                     -- another operation cycle
--   ecm:voltage("kl30", 6)                          -- where no power channel of the bench feeds the terminal
--   ecm:memory(0x8000, 16)                          -- hexadecimal text
--   ecm:write_memory(0x8000, "DE AD")
--   ecm:advance("10s")                              -- of an ECU with clock: virtual
--   ecm:reset()                                     -- as a watchdog does
--   ecm:state().faults[1].struck                    -- powered, ignition, booting, session, kl30_current, sent, ...
local kernel = ...
local invoke, fail, encode, flat = kernel.invoke, kernel.fail, kernel.encode, kernel.flat
local mathtype, setmetatable, type = math.type, setmetatable, type

local Ecu = { __metatable = false }
Ecu.__index = Ecu
local numbers = setmetatable({}, { __mode = "k" })

local function number_of(ecu)
  return numbers[ecu] or fail("invalid", "call it with a colon on a simulated ECU: ecu:fault{...}")
end

local function text(value, what)
  if type(value) ~= "string" then
    fail("invalid", what .. " is " .. kernel.show(value) .. "; it must be text")
  end
  return flat(value, what)
end

local function whole(value, what)
  if mathtype(value) ~= "integer" then
    fail("invalid", what .. " is " .. kernel.show(value) .. "; it must be a whole number")
  end
  return value
end

-- A fault as in an ECU's description; returns its number.
function Ecu.fault(ecu, fault)
  local number = number_of(ecu)
  if type(fault) ~= "table" then
    fail("invalid", "the fault is " .. kernel.show(fault) .. '; it must be a table such as { kind = "no_answer" }')
  end
  return invoke("sim_fault", number, encode(fault))
end

function Ecu.clear(ecu, fault)
  return invoke("sim_clear", number_of(ecu), fault ~= nil and whole(fault, "the fault's number") or nil)
end

function Ecu.voltage(ecu, terminal, volts)
  return invoke("sim_voltage", number_of(ecu), text(terminal, "the terminal"), flat(volts, "volts"))
end

function Ecu.set(ecu, did, value)
  local number = number_of(ecu)
  if value == nil then
    fail("invalid", "the value is missing")
  end
  if mathtype(did) ~= "integer" then
    did = text(did, "the data identifier")
  end
  invoke("sim_set", number, did, encode(value))
end

function Ecu.signal(ecu, message, signal, value)
  invoke("sim_signal", number_of(ecu), text(message, "the message"), text(signal, "the signal"), flat(value, "value"))
end

function Ecu.message(ecu, message, on)
  local number = number_of(ecu)
  if type(on) ~= "boolean" then
    fail("invalid", "on is " .. kernel.show(on) .. "; it must be true or false")
  end
  invoke("sim_message", number, text(message, "the message"), on)
end

function Ecu.dtc(ecu, code, condition)
  invoke("sim_dtc", number_of(ecu), text(code, "the code"), flat(condition, "condition"))
end

function Ecu.cycle(ecu)
  invoke("sim_cycle", number_of(ecu))
end

function Ecu.memory(ecu, address, size)
  return invoke("sim_memory", number_of(ecu), whole(address, "the address"), whole(size, "the size"))
end

function Ecu.write_memory(ecu, address, data)
  invoke("sim_write_memory", number_of(ecu), whole(address, "the address"), text(data, "the data"))
end

-- Returns what the virtual clock shows then, in seconds.
function Ecu.advance(ecu, duration)
  return invoke("sim_advance", number_of(ecu), flat(duration, "duration"))
end

function Ecu.reset(ecu)
  invoke("sim_reset", number_of(ecu))
end

function Ecu.state(ecu)
  return invoke("sim_state", number_of(ecu))
end

local sim = {}

function sim.ecu(name)
  local ecu = setmetatable({}, Ecu)
  numbers[ecu] = invoke("sim_ecu", name ~= nil and text(name, "the name") or nil)
  return ecu
end

return sim
