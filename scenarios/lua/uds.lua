-- uds: diagnostics (ISO 14229-1) with the bench's ECUs. Bytes are hexadecimal text: "22 F1 90" or "22F190".
--
--   local ecm = uds.ecu("ECM")            -- uds.ecu() if the bench has only one; uds.ecu("ECM", "30s"): its timeout
--   ecm:session("extended")               ecm:read("VIN")            ecm:write("RepairShopCode", "ABC123")
--   ecm:unlock(1)                         ecm:unlock(1, function(seed) return key end)
--   ecm:dtcs()  ecm:dtcs(0x08)            ecm:clear_dtcs()           ecm:reset("hard")
--   ecm:tester_present()                  ecm:raw("22F190")          -- the answer, whatever it is
--
-- A negative response raises an error with the fields nrc, nrc_name, meaning, service, service_name and
-- message. Names and meaning come from the agent.
local kernel = ...
local invoke, fail, encode = kernel.invoke, kernel.fail, kernel.encode
local setmetatable, type = setmetatable, type

local Ecu = { __metatable = false }
Ecu.__index = Ecu
local numbers = setmetatable({}, { __mode = "k" })

local function number_of(ecu)
  return numbers[ecu] or fail("invalid", "call it with a colon on an ECU: ecu:read(...)")
end

local function call(ecu, service, arguments)
  return invoke("uds_call", number_of(ecu), service, encode(arguments))
end

local function required(ecu, value, what)
  number_of(ecu)
  if value == nil then
    fail("invalid", what .. " is missing")
  end
  return value
end

-- session: "default", "programming", "extended" or a number.
function Ecu.session(ecu, session)
  return call(ecu, "session", { session = required(ecu, session, "the session") })
end

-- The value of a data identifier, by name or number; for a list of them a table by name.
function Ecu.read(ecu, did)
  return call(ecu, "read", { did = required(ecu, did, "the data identifier") })
end

function Ecu.write(ecu, did, value)
  call(ecu, "write", { did = required(ecu, did, "the data identifier"), value = required(ecu, value, "the value") })
end

-- Security access. Without a function, the key comes from the ECU's description; else from key_of(seed), both as
-- hexadecimal text. Returns false when the ECU was unlocked already.
function Ecu.unlock(ecu, level, key_of)
  required(ecu, level, "the security level")
  if key_of == nil then
    call(ecu, "unlock", { level = level })
    return true
  elseif type(key_of) ~= "function" then
    fail("invalid", "the second argument of unlock is a " .. type(key_of) .. "; it must be a function from seed to key")
  end
  local seed = call(ecu, "seed", { level = level })
  if not string.find(seed, "[^0]") then
    return false -- an all-zero seed: nothing to unlock (ISO 14229-1, SecurityAccess)
  end
  local key = key_of(seed)
  if type(key) ~= "string" then
    fail("invalid", "the key function returned a " .. type(key) .. "; it must return hexadecimal text")
  end
  call(ecu, "key", { level = level, key = key })
  return true
end

-- The trouble codes whose status meets the mask: a list of { code = "P0301", status = 0x2F, confirmed = true, ... }.
function Ecu.dtcs(ecu, mask)
  return call(ecu, "read_dtcs", { mask = mask })
end

-- group: 0xFFFFFF (default) is all.
function Ecu.clear_dtcs(ecu, group)
  call(ecu, "clear_dtcs", { group = group })
end

-- kind: "hard" (default), "key_off_on", "soft" or a number.
function Ecu.reset(ecu, kind)
  return call(ecu, "reset", { kind = kind == nil and "hard" or kind })
end

function Ecu.tester_present(ecu)
  call(ecu, "tester_present", {})
end

-- Sends these bytes and returns the ECU's answer, negative ones included; "" if none was due.
function Ecu.raw(ecu, request)
  return invoke("uds_raw", number_of(ecu), kernel.flat(required(ecu, request, "the request"), "request"))
end

local uds = {}

function uds.ecu(name, timeout)
  name = name ~= nil and kernel.flat(name, "name of an ECU") or nil
  local number = invoke("uds_ecu", name, timeout ~= nil and kernel.flat(timeout, "timeout") or nil)
  local ecu = setmetatable({}, Ecu)
  numbers[ecu] = number
  return ecu
end

return uds
