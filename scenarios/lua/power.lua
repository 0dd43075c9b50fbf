-- power: the bench's supplies. A channel is named as in the agent's configuration, or by its terminal (DIN 72552).
--
--   local kl30 = power.channel("kl30")
--   kl30:on()              kl30:off()               kl30:cycle("2s")
--   kl30:set{ voltage = 9, current = 5 }            -- V, and the current limit in A
--   local now = kl30:measure()                      -- now.voltage, now.current, now.time
--   kl30:profile("iso16750_cranking_II")            -- or points: kl30:profile{ { 0, 12 }, { 100, 6 }, { 600, 12 } }
--   power.profile("iso16750_cranking_II")           -- on kl30
--   power.ignition(true)                            -- kl15
--   for _, channel in ipairs(power.channels()) do print(channel.name, channel.state) end
--
-- on, off, cycle and set return the channel's state: state ("on", "off", "unknown"), voltage, current_limit, fault.
local kernel = ...
local invoke, fail, encode = kernel.invoke, kernel.fail, kernel.encode
local setmetatable, type = setmetatable, type

local Channel = { __metatable = false }
Channel.__index = Channel
local names = setmetatable({}, { __mode = "k" })

local function name_of(channel)
  return names[channel] or fail("invalid", "call it with a colon on a channel: channel:on(), channel:set{...}")
end

function Channel.on(channel)
  return invoke("power_switch", name_of(channel), true)
end

function Channel.off(channel)
  return invoke("power_switch", name_of(channel), false)
end

-- Off for so long (default: 1 s), and on; the agent keeps the time.
function Channel.cycle(channel, off)
  return invoke("power_cycle", name_of(channel), kernel.flat(off == nil and 1 or off, "duration"))
end

function Channel.set(channel, settings)
  if type(settings) ~= "table" then
    fail("invalid", "settings are " .. kernel.show(settings) .. "; they must be a table such as { voltage = 9 }")
  end
  return invoke("power_set", name_of(channel), encode(settings))
end

function Channel.measure(channel)
  return invoke("power_measure", name_of(channel))
end

-- A built-in profile by name, or points { ms, V }; waits for its end. step: time between two voltages on a slope.
-- Returns a table with steps, skipped, worst_ms and source.
function Channel.profile(channel, what, step)
  local name = name_of(channel)
  step = step ~= nil and kernel.flat(step, "step") or nil
  if type(what) == "table" then
    return invoke("power_profile", name, nil, encode(what), step)
  elseif type(what) ~= "string" then
    fail("invalid", "the profile is " .. kernel.show(what) .. "; it must be a name or a list of points")
  end
  return invoke("power_profile", name, kernel.flat(what, "profile"), "[]", step)
end

local power = {}

function power.channel(name)
  if type(name) ~= "string" then
    fail("invalid", "power.channel needs a name such as 'kl30', not " .. kernel.show(name))
  end
  local channel = setmetatable({}, Channel)
  names[channel] = kernel.flat(name, "name of a channel")
  return channel
end

function power.channels()
  return invoke("power_channels")
end

-- Terminal 15.
function power.ignition(on)
  if type(on) ~= "boolean" then
    fail("invalid", "power.ignition is " .. kernel.show(on) .. "; it must be true or false")
  end
  return invoke("power_switch", "kl15", on)
end

function power.profile(what, step)
  return power.channel("kl30"):profile(what, step)
end

return power
