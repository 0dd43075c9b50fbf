-- bench: the bench that this run has leased.
local kernel = ...
local invoke, fail = kernel.invoke, kernel.fail

-- bench.name, bench.labels, bench.lease.id, bench.lease.run; what the agent says comes when it is asked for.
local facts
local asked = { buses = true, ecus = true }

return setmetatable({}, {
  __index = function(_, key)
    if asked[key] then
      return invoke("describe")[key]
    end
    facts = facts or invoke("bench")
    return facts[key]
  end,
  __newindex = function(_, key) fail("invalid", "bench." .. tostring(key) .. " cannot be set") end,
  __metatable = false,
})
