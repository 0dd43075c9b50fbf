-- uds: diagnostics (ISO 14229-1) with the bench's ECUs. Bytes are hexadecimal text: "22 F1 90" or "22F190".
--
--   local ecm = uds.ecu("ECM")            -- uds.ecu() if the bench has only one; uds.ecu("ECM", "30s"): its timeout
--   ecm:session("extended")               ecm:read("VIN")            ecm:write("RepairShopCode", "ABC123")
--   ecm:unlock(1)                         ecm:unlock(1, function(seed) return key end)
--   ecm:dtcs()  ecm:dtcs(0x08)            ecm:clear_dtcs()           ecm:reset("hard")
--   ecm:dtc_snapshot("P0301")             ecm:dtc_extended_data("P0301")
--   ecm:routine("Erase"):start{ ... }     ecm:io_control("Valve", "adjust", 60)
--   ecm:tester_present()                  ecm:raw("22F190")          -- the answer, whatever it is
--   ecm:read_memory{ address = 0x8000, size = 16 }                   -- and every other service by its name
--   ecm:flash{ file = "app.hex", progress = function(at) print(at.phase, at.done, at.total) end }
--   uds.functional("22F190", { timeout = "200ms" })                  -- all ECUs of a bus; a table by ECU
--
-- A negative response raises an error with the fields nrc, nrc_name, meaning, service, service_name and
-- message. Names and meaning come from the agent.
local kernel = ...
local invoke, fail, encode = kernel.invoke, kernel.fail, kernel.encode
local ipairs, next, setmetatable, type = ipairs, next, setmetatable, type

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

-- The snapshots of a trouble code: { code = ..., snapshots = { { record = 1, data = { Speed = 800 }, units = ... } } }.
function Ecu.dtc_snapshot(ecu, dtc, record)
  return call(ecu, "dtc_snapshot", { dtc = required(ecu, dtc, "the trouble code"), record = record })
end

-- The extended data of a trouble code: { code = ..., records = { { record = 1, data = ..., raw = "07" } } }.
function Ecu.dtc_extended_data(ecu, dtc, record)
  return call(ecu, "dtc_extended_data", { dtc = required(ecu, dtc, "the trouble code"), record = record })
end

-- action: "return", "reset", "freeze" or "adjust", which takes a value.
function Ecu.io_control(ecu, did, action, value)
  did, action = required(ecu, did, "the data identifier"), required(ecu, action, "the action")
  return call(ecu, "io_control", { did = did, action = action, value = value })
end

local Routine = { __metatable = false }
Routine.__index = Routine
local routines = setmetatable({}, { __mode = "k" })

-- A routine by name or number, with start, stop and results; each takes a table of options, if it has any, and returns
-- { routine = ..., action = ..., status = { ... }, raw = "00" }.
function Ecu.routine(ecu, name)
  local routine = setmetatable({}, Routine)
  routines[routine] = { ecu = ecu, name = required(ecu, name, "the routine") }
  return routine
end

for _, action in ipairs({ "start", "stop", "results" }) do
  Routine[action] = function(routine, options)
    local known = routines[routine] or fail("invalid", "call it with a colon on a routine: routine:" .. action .. "()")
    return call(known.ecu, "routine", { routine = known.name, action = action, options = options })
  end
end

-- Values that the ECU sends by itself: ecu:periodic{ dids = { "Speed" }, rate = "fast" } starts them, ecu:stop_periodic()
-- ends them, ecu:collect{ count = 3, timeout = "1s" } takes those that came, as { name, value, unit, raw, at }.
function Ecu.periodic(ecu, arguments)
  call(ecu, "read_periodic", required(ecu, arguments, "the table with dids and rate"))
end

function Ecu.collect(ecu, arguments)
  return call(ecu, "collect_periodic", arguments or {})
end

-- What the ECU has sent unasked since the last call (ResponseOnEvent, late answers): ecu:events{ timeout = "1s" }.
function Ecu.events(ecu, arguments)
  return call(ecu, "events", arguments or {})
end

-- How many events and periodic values were dropped in this lease, because nobody took them in time (the agent keeps 1000
-- of each): { events = 0, periodic = 0 }.
function Ecu.dropped(ecu)
  return call(ecu, "dropped", {})
end

-- Any service by its name, with its arguments; `timeout` among them is for this call alone.
function Ecu.call(ecu, service, arguments)
  return call(ecu, kernel.flat(required(ecu, service, "the service"), "name of a service"), arguments or {})
end

for _, service in ipairs({
  "read_dtcs", "count_dtcs", "supported_dtcs", "permanent_dtcs", "find_dtc", "dtcs_by_severity", "dtc_severity",
  "dtc_fault_counters", "wwh_obd_dtcs", "wwh_obd_permanent_dtcs", "dtc_snapshots", "snapshot_record",
  "extended_data_record", "read_memory", "read_scaling", "seed", "key", "communication_control", "authenticate",
  "read_periodic", "stop_periodic", "collect_periodic", "define_did", "clear_dynamic_did", "request_download",
  "request_upload", "transfer_data", "transfer_exit", "request_file_transfer", "write_memory", "access_timing",
  "control_dtc_setting", "response_on_event", "link_control",
}) do
  Ecu[service] = function(ecu, arguments)
    if arguments ~= nil and type(arguments) ~= "table" then
      fail("invalid", service .. " takes a table of arguments: ecu:" .. service .. "{ name = value }")
    end
    return call(ecu, service, arguments or {})
  end
end

local FLASH = { file = "string", address = "number", resume = "boolean", progress = "function", timeout = "any" }

-- Writes an image that came with the run, as the ECU's description says, and returns { bytes, elapsed, rate }. address:
-- where a raw binary belongs; resume: go on where an attempt broke off; progress: called with { phase, done, total,
-- address, block, blocks, counter, rate } now and then; an error that it raises stops the flashing.
function Ecu.flash(ecu, arguments)
  local number = number_of(ecu)
  if type(arguments) ~= "table" then
    fail("invalid", 'flash takes a table of arguments: ecu:flash{ file = "app.hex" }')
  end
  local given, progress = {}, arguments.progress
  for name, value in next, arguments do
    local wanted = FLASH[name]
    if wanted == nil then
      fail("invalid", "flash has no argument " .. kernel.show(name) .. "; it has file, address, resume, progress, timeout")
    elseif wanted ~= "any" and type(value) ~= wanted then
      fail("invalid", name .. " is a " .. type(value) .. "; it must be a " .. wanted)
    elseif name ~= "progress" then
      given[name] = value
    end
  end
  local flashing = invoke("flash_begin", number, encode(given))
  local _ <close> = setmetatable({}, { __close = function() invoke("flash_end", flashing) end })
  while true do
    local at = invoke("flash_next", flashing)
    if at.bytes then
      return at
    elseif progress then
      progress(at)
    end
  end
end

-- Sends these bytes and returns the ECU's answer, negative ones included; "" if none was due.
function Ecu.raw(ecu, request)
  return invoke("uds_raw", number_of(ecu), kernel.flat(required(ecu, request, "the request"), "request"))
end

local uds = {}

-- One request to all ECUs of a bus by their functional address: bytes, or a service by name with its arguments among the
-- options. Options: timeout (1 s without it), bus (where several have ECUs), functional_id (where the ECUs of a bus have
-- different ones). Returns a table by ECU: { result = ..., response = "62...", silent = false }, for a refusal with nrc,
-- nrc_name, meaning and error; silent is true for no answer.
function uds.functional(request, options)
  return invoke("uds_functional", kernel.flat(request, "request"), encode(options or {}))
end

function uds.ecu(name, timeout)
  name = name ~= nil and kernel.flat(name, "name of an ECU") or nil
  local number = invoke("uds_ecu", name, timeout ~= nil and kernel.flat(timeout, "timeout") or nil)
  local ecu = setmetatable({}, Ecu)
  numbers[ecu] = number
  return ecu
end

return uds
