-- env: the variables and secrets of the run's environment: env.DB_HOST. Secrets are masked in the run's log and result.
local kernel = ...
local invoke, fail = kernel.invoke, kernel.fail
local setmetatable = setmetatable

local values

return setmetatable({}, {
  __index = function(_, name)
    values = values or invoke("environment")
    local value = values[name]
    if value == nil then
      fail("invalid", "env." .. kernel.show(name) .. ": " .. invoke("environment_lacks", kernel.flat(name, "variable")))
    end
    return value
  end,
  __newindex = function()
    fail("invalid", "env cannot be changed; it is set with 'labctl env set'")
  end,
  __metatable = false,
})
