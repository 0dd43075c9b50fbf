-- can: frames and DBC messages on the bench's CAN buses.
--
--   local bus = can.bus("powertrain")                    -- can.bus() if the bench has only one
--   bus:send("EngineControl", { TargetSpeed = 1500 })    -- signals left out take the DBC's initial value
--   bus:send("EngineControl", { TargetSpeed = 9000 }, { force = true })  -- also outside the DBC's bounds
--   bus:send(0x123, "11 22 33", { fd = true })           -- a frame: id, data, { extended, fd, brs }
--   local signals, at = bus:expect("EngineStatus", { EngineSpeed = test.within(1500, 50) }, "2s")
--   local data, at = bus:expect(0x123, nil, "500ms")     -- data as hexadecimal text, at in seconds since the epoch
--   bus:expect("EngineStatus", { EngineState = "Running" }, "5s", { hold = "500ms" })  -- stays so
--   bus:expect("EngineStatus", { EngineState = test.changes("Off", "Cranking") }, "2s")  -- also test.rising, falling
--   bus:expect("EngineStatus", { CheckEngineLamp = 1 }, "2s", { count = 3 })  -- at least; exactly = 3: over all the time
--   bus:never("EngineStatus", { CheckEngineLamp = 1 }, "500ms")          -- none in all that time
--   bus:expect_cycle("EngineStatus", "15ms", "25ms", "2s")               -- every interval in that time
--   local cycle = bus:measure_cycle("EngineStatus", "2s")                -- shortest, mean, longest in s; frames
--
-- expect looks at the frames since the last send on this bus object, so an answer that was faster than the script
-- counts; without a send, at the frames from now on. A message that has met an expect does not meet a later one.
local kernel = ...
local invoke, fail, encode = kernel.invoke, kernel.fail, kernel.encode
local mathtype, next, rawget, setmetatable, type = math.type, next, rawget, setmetatable, type

local Bus = { __metatable = false }
Bus.__index = Bus
local numbers = setmetatable({}, { __mode = "k" }) -- bus object -> its number on the Python side

local function number_of(bus)
  return numbers[bus] or fail("invalid", "call it with a colon on a bus: bus:send(...), bus:expect(...)")
end

local function options_of(options, known)
  if options == nil then
    return "{}"
  elseif type(options) ~= "table" then
    fail("invalid", "options are " .. kernel.show(options) .. "; they must be a table")
  end
  for key in next, options do
    if not known[key] then
      fail("invalid", "unknown option " .. kernel.show(key))
    end
  end
  return encode(options)
end

local function is_id(what)
  if mathtype(what) == "integer" then
    return true
  elseif type(what) == "string" then
    return false
  end
  fail("invalid", kernel.show(what) .. " is neither a message name nor an arbitration ID")
end

local MESSAGE_OPTIONS = { force = true }
local FRAME_OPTIONS = { extended = true, fd = true, brs = true }
local EXPECT_OPTIONS = { extended = true, hold = true, count = true, exactly = true }
local ID_OPTIONS = { extended = true }

-- Sends a DBC message or a frame. A value outside the DBC's bounds is refused, unless force is given. Returns when the bus driver has taken it, in seconds since the epoch.
function Bus.send(bus, what, content, options)
  local number = number_of(bus)
  if is_id(what) then
    return invoke("can_send_frame", number, what, kernel.flat(content or "", "data"), options_of(options, FRAME_OPTIONS))
  elseif content ~= nil and type(content) ~= "table" then
    fail("invalid", "signals are " .. kernel.show(content) .. "; they must be a table such as { Speed = 1500 }")
  elseif content and content[1] ~= nil then
    fail("invalid", "signals are a list; they must be a table of names such as { Speed = 1500 }")
  end
  local chosen = options_of(options, MESSAGE_OPTIONS)
  return invoke("can_send_message", number, kernel.bounded(what), encode(content or {}), chosen)
end

local function conditions_of(content)
  if content ~= nil and type(content) ~= "table" then
    fail("invalid", "conditions are " .. kernel.show(content) .. "; they must be a table such as { Speed = 1500 }")
  end
  local conditions = {}
  for signal, wanted in next, content or {} do
    local condition = kernel.is_matcher(wanted) and rawget(wanted, "condition") or { "equals", wanted }
    conditions[#conditions + 1] = { signal, condition[1], condition[2], condition[3] }
  end
  return encode(conditions)
end

local function expect(bus, what, content, timeout, options)
  local number = number_of(bus)
  if is_id(what) then
    local data = content ~= nil and kernel.flat(content, "data") or nil
    local found = invoke("can_expect_frame", number, what, data, timeout, options)
    return found.data, found.time
  end
  local found = invoke("can_expect_message", number, kernel.bounded(what), conditions_of(content), timeout, options)
  return found.signals, found.time
end

-- Waits (default: 1 s) for a message whose signals meet all conditions, or for a frame with this data (nil: any).
-- options: hold (it stays so for this time), count (at least so many frames), exactly (so many in all that time).
function Bus.expect(bus, what, content, timeout, options)
  timeout = kernel.flat(timeout == nil and 1 or timeout, "timeout")
  return expect(bus, what, content, timeout, options_of(options, EXPECT_OPTIONS))
end

-- No message meets all conditions (no frame has this data) in all that time.
function Bus.never(bus, what, content, window, options)
  local chosen = { exactly = 0, extended = type(options) == "table" and rawget(options, "extended") or nil }
  options_of(options, ID_OPTIONS)
  expect(bus, what, content, kernel.flat(window, "time"), encode(chosen))
end

-- Every interval between two frames of a message (or with an ID) is from low to high, in all that time.
function Bus.expect_cycle(bus, what, low, high, window, options)
  options_of(options, ID_OPTIONS)
  local chosen = {
    cycle = { kernel.flat(low, "low"), kernel.flat(high, "high") },
    extended = type(options) == "table" and rawget(options, "extended") or nil,
  }
  expect(bus, what, nil, kernel.flat(window, "time"), encode(chosen))
end

-- Listens for this time, to own frames too: { frames, shortest, mean, longest }, times in seconds.
function Bus.measure_cycle(bus, what, window, options)
  local number = number_of(bus)
  local target = is_id(what) and what or kernel.bounded(what)
  return invoke("can_measure_cycle", number, target, kernel.flat(window, "time"), options_of(options, ID_OPTIONS))
end

local can = {}

function can.bus(name)
  local number = invoke("can_bus", name ~= nil and kernel.flat(name, "name of a bus") or nil)
  local bus = setmetatable({}, Bus)
  numbers[bus] = number
  return bus
end

kernel.bus, kernel.number_of_bus = Bus, number_of -- for the modules that add to what a bus can do
return can
