-- bench: the bench that this run has leased.
local kernel = ...
local invoke, fail, encode = kernel.invoke, kernel.fail, kernel.encode
local next, setmetatable, tostring, type = next, setmetatable, tostring, type
local concat, sort = table.concat, table.sort

-- bench.name, bench.labels, bench.names, bench.lease.id, bench.lease.run; what the agent says comes when it is asked for.
local facts
local asked = { buses = true, ecus = true, consoles = true, power = true, adapters = true }

-- bench.adapter("door"):open(30), or with names: :open{ percent = 30 }. The methods are those of the device's driver.
local function adapter(name)
  if type(name) ~= "string" then
    fail("invalid", "bench.adapter needs a name, not " .. kernel.show(name))
  end
  name = invoke("adapter_open", kernel.flat(name, "name of an adapter"))
  return setmetatable({}, {
    __index = function(_, method)
      return function(_, first, ...)
        local named = type(first) == "table" and first[1] == nil
        return invoke("adapter_call", name, kernel.flat(method, "method"), encode(named and first or { first, ... }))
      end
    end,
    __newindex = function(_, key) fail("invalid", "an adapter's " .. tostring(key) .. " cannot be set") end,
    __metatable = false,
  })
end

local Gateway = { __metatable = false }
Gateway.__index = Gateway
local gateways = setmetatable({}, { __mode = "k" }) -- gateway object -> its number on the Python side

local function gateway_of(object)
  return gateways[object] or fail("invalid", "call it with a colon on a gateway: gw:state(), gw:stop()")
end

-- bench.gateway{ from = "ecu", to = "vehicle", faults = { { id = 0x123, drop = true, probability = 0.1, seed = 1 } } }
-- forwards until gw:stop() or the end of the run. Of a fault: id, mask, extended (which frames; none: all), probability,
-- seed, and what happens: drop, delay, copies, flip, new_id, length. one_way: nothing goes back.
local function gateway(options)
  if type(options) ~= "table" then
    fail("invalid", "bench.gateway needs a table such as { from = 'ecu', to = 'vehicle' }, not " .. kernel.show(options))
  end
  local number = invoke("gateway_start", encode(options))
  local object = setmetatable({}, Gateway)
  gateways[object] = number
  return object
end

-- { forwarded, back, refused, error, overflowed, struck = { frames that each fault has struck } }
function Gateway.state(object)
  return invoke("gateway_state", gateway_of(object))
end

-- No frame is forwarded once this returns. Returns the last state.
function Gateway.stop(object)
  return invoke("gateway_stop", gateway_of(object))
end

-- bench.on_revoke(function(notice) ... end): called when labd wants the benches back, with notice.reason and
-- notice.grace_s, the seconds that are left. Between two calls of the script, or while it sleeps; nil: not any more.
local function on_revoke(fn)
  if fn ~= nil and type(fn) ~= "function" then
    fail("invalid", "bench.on_revoke takes a function, not " .. kernel.show(fn))
  end
  kernel.on_revoke(fn)
end

-- Another bench of the run, by name or by number in the order in which they were asked for; bench.names lists them.
local function open(which)
  return kernel.open_bench(invoke("bench_number", kernel.flat(which, "bench")))
end

-- local can = bench.open(2).require("can"): a module that acts on this bench.
local function own_module(name)
  local found = type(name) == "string" and kernel.modules[name]
  if not found then
    local known = {}
    for other in next, kernel.modules do
      known[#known + 1] = other
    end
    sort(known)
    fail("invalid", "a bench has no module " .. kernel.show(name) .. "; it has " .. concat(known, ", "))
  end
  return found
end

local functions = { adapter = adapter, gateway = gateway, on_revoke = on_revoke, open = open, require = own_module }

return setmetatable({}, {
  __index = function(_, key)
    if functions[key] then
      return functions[key]
    end
    if asked[key] then
      return invoke("describe")[key]
    end
    facts = facts or invoke("bench")
    return facts[key]
  end,
  __newindex = function(_, key) fail("invalid", "bench." .. tostring(key) .. " cannot be set") end,
  __metatable = false,
})
