-- j1939: parameter groups (SAE J1939) on a CAN bus, by number or by the DBC's names, source address apart.
--
--   local tool = bus:j1939{ address = 0xF9 }            -- also name (NAME to claim it with), answers, ...
--   tool:send("TSC1", { RequestedSpeed = 1200 }, { to = 0x00 })
--   tool:send(0xFECA, "04 FF 5B 00 03 01 00 00 00")      -- to all; above 8 bytes by BAM
--   local soft = tool:request("SOFT", { to = 0x00 })     -- pgn, source, destination, priority, data, time, name, signals
--   local eec1 = tool:expect("EEC1", { EngineSpeed = test.above(1000) }, { from = 0x00, timeout = "2s" })
--   tool:expect(0xFECA, nil, { from = 0x00 })            -- data as hexadecimal text instead of nil: exactly this
--   tool:state()  tool:close()
--
-- expect looks at the messages since the last send or request of the script's nodes on this bus; without one, at those
-- from now on. A message that has met an expect does not meet a later one. A signal that is not available is nil.
local kernel = ...
local invoke, fail, encode, flat, bounded = kernel.invoke, kernel.fail, kernel.encode, kernel.flat, kernel.bounded
local mathtype, next, rawget, setmetatable, type = math.type, next, rawget, setmetatable, type
local Bus, number_of_bus = kernel.bus, kernel.number_of_bus

local Node = { __metatable = false }
Node.__index = Node
local numbers = setmetatable({}, { __mode = "k" }) -- node object -> its number on the Python side

local OPEN = {
  address = "integer", name = "integer", answers = "table", bam_spacing = "any", packets_per_cts = "integer",
  holds = "integer",
}
local SEND = { to = "integer", priority = "integer", timeout = "any", force = "boolean" }
local REQUEST = { to = "integer", timeout = "any" }
local EXPECT = { from = "integer", to = "integer", timeout = "any" }

local function checked(fields, known)
  if fields == nil then
    return {}
  elseif type(fields) ~= "table" then
    fail("invalid", "options are " .. kernel.show(fields) .. "; they must be a table")
  end
  for key, value in next, fields do
    local wanted = known[key]
    if wanted == nil then
      local names = {}
      for name in next, known do
        names[#names + 1] = name
      end
      table.sort(names)
      fail("invalid", "unknown option " .. kernel.show(key) .. "; it takes " .. table.concat(names, ", "))
    elseif wanted == "integer" and mathtype(value) ~= "integer" or wanted ~= "integer" and wanted ~= "any" and type(value) ~= wanted then
      fail("invalid", "option " .. key .. " is " .. kernel.show(value) .. "; it must be a " .. (wanted == "integer" and "whole number" or wanted))
    end
  end
  return fields
end

local function number_of(node)
  return numbers[node] or fail("invalid", "call it with a colon on a J1939 node: node:send(...), node:expect(...)")
end

-- A PGN or the name of a message.
local function named(what)
  if mathtype(what) == "integer" then
    return what
  elseif type(what) == "string" then
    return bounded(what)
  end
  fail("invalid", kernel.show(what) .. " is neither a PGN nor the name of a message")
end

local function signals_of(content, what)
  if content ~= nil and type(content) ~= "table" or type(content) == "table" and rawget(content, 1) ~= nil then
    fail("invalid", what .. " are " .. kernel.show(content) .. "; they must be a table such as { EngineSpeed = 1500 }")
  end
  return content or {}
end

-- Puts a node on the bus; with a name (NAME, 64 bits), it claims its address first.
function Bus.j1939(bus, options)
  local number = number_of_bus(bus)
  local chosen = {}
  for key, value in next, checked(options, OPEN) do
    chosen[key] = value
  end
  if chosen.address == nil then
    fail("invalid", "option address is missing: the node's source address, 0 .. 253")
  end
  local answers = {}
  for pgn, data in next, chosen.answers or {} do
    if mathtype(pgn) ~= "integer" or type(data) ~= "string" then
      fail("invalid", "answers are a table of hexadecimal text by PGN, such as { [0xFEDA] = \"01 02\" }")
    end
    answers[#answers + 1] = { pgn, flat(data, "answer") }
  end
  chosen.answers = answers
  local node = setmetatable({}, Node)
  numbers[node] = invoke("j1939_open", number, encode(chosen))
  return node
end

-- Sends data (hexadecimal text) or signals. Without `to`, to all. Returns what was sent.
function Node.send(node, what, content, options)
  local number, target = number_of(node), named(what)
  local values
  if type(target) == "string" then
    values = encode(signals_of(content, "signals"))
  else
    values = flat(content == nil and "" or content, "data")
  end
  return invoke("j1939_send", number, target, values, encode(checked(options, SEND)))
end

-- Asks for a PGN; returns the first answer. Without `to`, everybody is asked.
function Node.request(node, what, options)
  return invoke("j1939_request", number_of(node), named(what), encode(checked(options, REQUEST)))
end

-- Waits (default: 1 s) for a message whose signals meet all conditions, or with this data (nil: any).
function Node.expect(node, what, content, options)
  local number, target = number_of(node), named(what)
  local chosen = {}
  for key, value in next, checked(options, EXPECT) do
    chosen[key] = value
  end
  if type(target) == "string" then
    local conditions = {}
    for signal, wanted in next, signals_of(content, "conditions") do
      local condition = kernel.is_matcher(wanted) and rawget(wanted, "condition") or { "equals", wanted }
      conditions[#conditions + 1] = { signal, condition[1], condition[2], condition[3] }
    end
    chosen.conditions = conditions
  elseif content ~= nil then
    chosen.data = flat(content, "data")
  end
  return invoke("j1939_expect", number, target, encode(chosen))
end

-- { address, sent, received, send_errors, receive_errors, lost, ignored, dropped, conflicts, fault }
function Node.state(node)
  return invoke("j1939_state", number_of(node))
end

function Node.close(node)
  invoke("j1939_close", number_of(node))
end

return { open = Bus.j1939 }
