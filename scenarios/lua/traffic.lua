-- traffic: what the agent sends by itself on a bus, until it is stopped or the lease ends.
--
--   local m = bus:cyclic("EngineControl", { TargetSpeed = 1500 }, { period = "10ms" })
--   local m = bus:cyclic("EngineControl", { TargetSpeed = 1500 }, {
--     period = "10ms",
--     counter = { signal = "Alive" },                                   -- also modulo, first, step; or start, length
--     checksum = { signal = "CRC", algorithm = "crc8_j1850", data_id = 0x1A }, -- also first, last, initial, xor_out
--   })
--   local m = bus:cyclic(0x123, "11 22", { period = "10ms" })            -- a frame; options extended, fd, brs
--   local m = bus:cyclic(0x123, "11 22", { period = "10ms", counter = { modulo = 16 },
--     payload = function(data, counter) return data .. string.format("%02X", counter) end })
--   m:set{ TargetSpeed = 1600 }  m:set("33 44")  m:period("20ms")  m:stop()  m:resume()  m:state().sent
--   m:freeze_counter()  m:skip_counter(3)  m:corrupt_checksum(0xFF)  m:wrong_length(4)
--   m:corrupt{ checksum_xor = 0xFF, data_xor = "00 01", length = 4 }  m:heal()
--
--   local rest = bus:restbus{ except = { "ECM" } }                       -- every other message of the DBC
--   rest:set("TransmissionStatus", { Gear = "Drive" })  rest:off("TurnSignals")  rest:on("TurnSignals")
--   rest:message("TransmissionStatus"):freeze_counter()  rest.messages  rest.left_out  rest:stop()
--
--   local replay = bus:replay("trip.blf")                -- a log that came with the run; also .asc and candump's .log
--   bus:replay("trip.blf", { speed = 0.5, loop = 3, channel = "1", ids = { 0x123 } }):wait("1m")
--   replay:state().sent  replay:wait()  replay:stop()
local kernel = ...
local invoke, fail, encode, flat, bounded = kernel.invoke, kernel.fail, kernel.encode, kernel.flat, kernel.bounded
local mathtype, next, rawget, setmetatable, type = math.type, next, rawget, setmetatable, type
local Bus, number_of_bus = kernel.bus, kernel.number_of_bus

local Message = { __metatable = false }
Message.__index = Message
local RestBus = { __metatable = false }
RestBus.__index = RestBus
local members = setmetatable({}, { __mode = "k" }) -- message object -> { number, name in its rest-bus, payload function }
local rest_buses = setmetatable({}, { __mode = "k" }) -- rest-bus object -> number

local START = {
  period = "any", counter = "table", checksum = "table", payload = "function", force = "boolean",
  extended = "boolean", fd = "boolean", brs = "boolean",
}
local COUNTER = { signal = "string", modulo = "number", first = "number", step = "number", start = "number", length = "number", big_endian = "boolean" }
local CHECKSUM = {
  signal = "string", algorithm = "string", first = "number", last = "number", initial = "number", xor_out = "number",
  data_id = "any", start = "number", length = "number", big_endian = "boolean",
}
local CORRUPTION = { checksum_xor = "number", data_xor = "string", length = "number" }
local REST_BUS = { dbc = "string", except = "table", include = "table", except_messages = "table", protect = "table" }

-- Refuses fields that are unknown or of another type.
local function checked(fields, known, what)
  if fields == nil then
    return {}
  elseif type(fields) ~= "table" then
    fail("invalid", what .. " is " .. kernel.show(fields) .. "; it must be a table")
  end
  for key, value in next, fields do
    local wanted = known[key]
    if wanted == nil then
      local names = {}
      for name in next, known do
        names[#names + 1] = name
      end
      table.sort(names)
      fail("invalid", what .. " has an unknown field " .. kernel.show(key) .. "; it takes " .. table.concat(names, ", "))
    elseif wanted ~= "any" and type(value) ~= wanted then
      fail("invalid", what .. "." .. key .. " is " .. kernel.show(value) .. "; it must be a " .. wanted)
    end
  end
  return fields
end

local function signals_of(content)
  if content ~= nil and (type(content) ~= "table" or rawget(content, 1) ~= nil) then
    fail("invalid", "signals are " .. kernel.show(content) .. "; they must be a table such as { Speed = 1500 }")
  end
  return content or {}
end

local function protection(fields, what)
  checked(rawget(fields, "counter"), COUNTER, what .. "counter")
  checked(rawget(fields, "checksum"), CHECKSUM, what .. "checksum")
end

-- What the script's function makes of the payload of each counter state. It runs here, when values change; the agent
-- is given the finished payloads.
local function computed(payload, states)
  local made = {}
  for index, state in ipairs(states) do
    made[index] = payload(state[1], state[2])
    if type(made[index]) ~= "string" then
      fail("invalid", "the payload function returned " .. kernel.show(made[index]) .. "; it must return hexadecimal text")
    end
  end
  return encode(made)
end

-- Has a message of the DBC, or a frame, sent with a period; without one, with the DBC's cycle time.
function Bus.cyclic(bus, what, content, options)
  local number = number_of_bus(bus)
  local is_frame = mathtype(what) == "integer"
  if not is_frame and type(what) ~= "string" then
    fail("invalid", kernel.show(what) .. " is neither a message name nor an arbitration ID")
  end
  checked(options, START, "options")
  options = options or {}
  protection(options, "options.")
  local payload = rawget(options, "payload")
  local plain = {}
  for key, value in next, options do
    if key ~= "payload" then
      plain[key] = value
    end
  end
  if payload and plain.checksum then
    fail("invalid", "options have both checksum and payload; the payload function makes the checksum too")
  end
  local target = is_frame and what or bounded(what)
  local values = is_frame and flat(content == nil and "" or content, "data") or encode(signals_of(content))
  local handle
  if payload then
    handle = invoke("traffic_start", number, target, values, encode(plain), true)
    invoke("traffic_carry_out", handle.number, computed(payload, handle.states))
  else
    handle = invoke("traffic_start", number, target, values, encode(plain), false)
  end
  local message = setmetatable({}, Message)
  members[message] = { handle.number, "", payload }
  return message
end

local function member(message)
  local found = members[message] or fail("invalid", "call it with a colon on a cyclic message: m:set{ ... }, m:stop()")
  return found[1], found[2], found[3]
end

local function update(message, change)
  local number, name = member(message)
  return invoke("traffic_update", number, name, encode(change))
end

-- Other signal values, or (for a frame) other data, from the next frame on. force: also outside the DBC's bounds.
function Message.set(message, content, options)
  local number, name, payload = member(message)
  local force = checked(options, { force = "boolean" }, "options").force or false
  local change = { force = force }
  if type(content) == "string" then
    change.data = flat(content, "data")
  else
    change.signals = signals_of(content)
  end
  if payload then
    local states = invoke("traffic_prepare", number, name, encode(change))
    invoke("traffic_carry_out", number, computed(payload, states))
  else
    invoke("traffic_update", number, name, encode(change))
  end
end

function Message.period(message, period)
  update(message, { period = flat(period, "period") })
end

-- No frame is on its way once this returns.
function Message.stop(message)
  update(message, { running = false })
end

function Message.resume(message)
  update(message, { running = true })
end

-- The last frame is sent again and again.
function Message.freeze_counter(message)
  update(message, { freeze = true })
end

-- Leaves out so many counter values, once.
function Message.skip_counter(message, count)
  update(message, { skip = flat(count == nil and 1 or count, "count") })
end

-- The right checksum XOR mask.
function Message.corrupt_checksum(message, mask)
  update(message, { corruption = { checksum_xor = flat(mask == nil and 1 or mask, "mask") } })
end

function Message.wrong_length(message, length)
  update(message, { corruption = { length = flat(length, "length") } })
end

-- Replaces all that was wrong before, a frozen counter excepted.
function Message.corrupt(message, corruption)
  update(message, { corruption = checked(corruption, CORRUPTION, "corruption") })
end

-- Sound again, and the counter goes on.
function Message.heal(message)
  update(message, { freeze = false })
end

-- { sent, failed, late, error, running, period, counter_frozen, corrupted, in_kernel, ... }
function Message.state(message)
  return update(message, {})
end

-- Has every message of the bus' DBC sent, except those of the nodes `except` and of the bench's own ECUs.
function Bus.restbus(bus, options)
  local number = number_of_bus(bus)
  checked(options, REST_BUS, "options")
  for name, fields in next, options and options.protect or {} do
    checked(fields, { counter = "table", checksum = "table" }, "protect." .. tostring(name))
    protection(fields, "protect." .. tostring(name) .. ".")
  end
  local started = invoke("traffic_restbus", number, encode(options or {}))
  local rest = setmetatable({ messages = started.messages, left_out = started.left_out }, RestBus)
  rest_buses[rest] = started.number
  return rest
end

local function rest_bus(rest)
  return rest_buses[rest] or fail("invalid", "call it with a colon on a rest-bus: rest:set(...), rest:off(...)")
end

-- One message, with all that a cyclic message can do.
function RestBus.message(rest, name)
  local message = setmetatable({}, Message)
  members[message] = { rest_bus(rest), bounded(flat(name, "name of a message")), nil }
  return message
end

function RestBus.set(rest, name, signals, options)
  rest:message(name):set(signals, options)
end

function RestBus.off(rest, name)
  rest:message(name):stop()
end

function RestBus.on(rest, name)
  rest:message(name):resume()
end

function RestBus.stop(rest)
  invoke("traffic_restbus_stop", rest_bus(rest))
end

local Replay = { __metatable = false }
Replay.__index = Replay
local replays = setmetatable({}, { __mode = "k" }) -- replay object -> its number on the Python side
local REPLAY = { speed = "number", loop = "number", channel = "any", ids = "table" }

local function replay_of(replay)
  return replays[replay] or fail("invalid", "call it with a colon on a replay: replay:wait(), replay:stop()")
end

-- Plays a log with the distances of its frames, beside what the script does meanwhile. speed: 2 is twice as fast, 0 as
-- fast as the bus takes the frames; loop: so many times; channel: only frames of this channel of the log; ids: only these.
function Bus.replay(bus, file, options)
  local number = number_of_bus(bus)
  if type(file) ~= "string" then
    fail("invalid", "the log is " .. kernel.show(file) .. "; it must be the name of a file that came with the run")
  end
  checked(options, REPLAY, "options")
  number = invoke("replay_start", number, bounded(file), encode(options or {}))
  local replay = setmetatable({}, Replay)
  replays[replay] = number
  return replay
end

-- { sent, failed, error, position, late, starved, done }; position and late in seconds.
function Replay.state(replay)
  return invoke("replay_state", replay_of(replay))
end

-- Until the last frame is sent; fails after the timeout, if one is given. Returns the state.
function Replay.wait(replay, timeout)
  return invoke("replay_wait", replay_of(replay), timeout ~= nil and flat(timeout, "timeout") or nil)
end

-- No frame follows the one that is being sent. Returns the state.
function Replay.stop(replay)
  return invoke("replay_stop", replay_of(replay))
end

return { cyclic = Bus.cyclic, restbus = Bus.restbus, replay = Bus.replay }
