-- bench: the bench that this run has leased.
local kernel = ...
local invoke, fail, encode = kernel.invoke, kernel.fail, kernel.encode
local setmetatable, tostring, type = setmetatable, tostring, type

-- bench.name, bench.labels, bench.lease.id, bench.lease.run; what the agent says comes when it is asked for.
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

return setmetatable({}, {
  __index = function(_, key)
    if key == "adapter" then
      return adapter
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
