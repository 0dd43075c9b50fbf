-- log: lines in the run's log. print goes here too.
local kernel = ...
local concat, pack, tostring, invoke, bounded = table.concat, table.pack, tostring, kernel.invoke, kernel.bounded
local find, format, select, type = string.find, string.format, select, type
local pcall = kernel.pcall

local function text(...)
  local parts = pack(...)
  for index = 1, parts.n do
    parts[index] = tostring(parts[index])
  end
  return bounded(concat(parts, "\t", 1, parts.n))
end

-- log.info("speed is %d", 1500) formats; any other arguments are joined as print does.
local function formatted(first, ...)
  if select("#", ...) > 0 and type(first) == "string" and find(first, "%%") then
    local ok, line = pcall(format, first, ...)
    if ok then
      return bounded(line)
    end
  end
  return text(first, ...)
end

local log = {}

for _, level in ipairs({ "debug", "info", "warning", "error" }) do
  log[level] = function(...) invoke("log", level, formatted(...)) end
end
log.warn = log.warning

function log.print(...)
  invoke("log", "info", text(...))
end

return log
