-- test: cases, checks, and matchers. A check that does not hold ends its case as failed; the next case goes on.
local kernel = ...
local invoke, fail, is_error = kernel.invoke, kernel.fail, kernel.is_error
local byte, find, format, gsub, rep, sub = string.byte, string.find, string.format, string.gsub, string.rep, string.sub
local abs, mathtype, huge = math.abs, math.type, math.huge
local concat, sort = table.concat, table.sort
local getmetatable, ipairs, next, pairs, rawequal, rawget, setmetatable, tostring, type =
  getmetatable, ipairs, next, pairs, rawequal, rawget, setmetatable, tostring, type

local test = {}

---------------------------------------------------------------------------------------------------------------------
-- Showing values

local function is_name(key)
  return type(key) == "string" and find(key, "^[%a_][%w_]*$")
end

local function show(value, depth)
  local kind = type(value)
  if kind == "string" then
    local text = #value > 200 and sub(value, 1, 200) .. "..." or value
    return '"' .. gsub(text, '[%c"\\\127-\255]', function(c)
      return (c == '"' or c == "\\") and "\\" .. c or format("\\x%02X", byte(c))
    end) .. '"'
  elseif kind == "number" then
    return mathtype(value) == "float" and format("%.14g", value) or tostring(value)
  elseif kind ~= "table" then
    return tostring(value)
  elseif kernel.is_matcher(value) then
    return rawget(value, "text")
  elseif is_error(value) then
    return tostring(value)
  end
  depth = depth or 0
  if depth > 3 then
    return "{...}"
  end
  local parts, keys = {}, {}
  local length = #value
  for index = 1, length do
    parts[index] = index <= 20 and show(value[index], depth + 1) or nil
  end
  for key in next, value do
    if not (mathtype(key) == "integer" and key >= 1 and key <= length) then
      keys[#keys + 1] = key
    end
    if #keys == 200 then
      break
    end
  end
  sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for index, key in ipairs(keys) do
    if index <= 20 then
      parts[#parts + 1] = (is_name(key) and key or "[" .. show(key, depth + 1) .. "]") .. " = " .. show(value[key], depth + 1)
    end
  end
  if length > 20 or #keys > 20 then
    parts[#parts + 1] = "..."
  end
  return "{ " .. concat(parts, ", ") .. " }"
end

---------------------------------------------------------------------------------------------------------------------
-- Matchers: values to compare with that accept more than one value. test.equal and bus:expect take them.

local Matcher = { __metatable = false }
function Matcher.__tostring(self)
  return rawget(self, "text")
end

function kernel.is_matcher(value)
  return type(value) == "table" and kernel.metatable_of(value) == Matcher
end

local function number(value, what)
  if type(value) ~= "number" or value ~= value then
    fail("invalid", format("%s is %s; it must be a number", what, show(value)))
  end
  return value
end

local function plain(value, what)
  local kind = type(value)
  if kind ~= "number" and kind ~= "string" and kind ~= "boolean" then
    fail("invalid", format("%s is %s; it must be a number, text or a boolean", what, show(value)))
  end
  return value
end

local function matcher(condition, text, accepts)
  return setmetatable({ condition = condition, text = text, accepts = accepts }, Matcher)
end

local function range(low, high, text)
  return matcher({ "within", low, high }, text, function(value)
    return type(value) == "number" and low <= value and value <= high
  end)
end

-- value - tolerance <= x <= value + tolerance
function test.within(value, tolerance)
  number(value, "value")
  if number(tolerance, "tolerance") < 0 then
    fail("invalid", format("tolerance is %s; it cannot be negative", show(tolerance)))
  end
  return range(value - tolerance, value + tolerance, format("%s ± %s", show(value), show(tolerance)))
end

-- low <= x <= high
function test.between(low, high)
  if number(low, "low") > number(high, "high") then
    fail("invalid", format("low is %s and high is %s: nothing lies between them", show(low), show(high)))
  end
  return range(low, high, format("%s .. %s", show(low), show(high)))
end

local comparisons = {
  above = { ">", function(x, limit) return x > limit end },
  at_least = { ">=", function(x, limit) return x >= limit end },
  below = { "<", function(x, limit) return x < limit end },
  at_most = { "<=", function(x, limit) return x <= limit end },
}
for name, comparison in pairs(comparisons) do
  local operator, holds = comparison[1], comparison[2]
  test[name] = function(limit)
    number(limit, "limit")
    return matcher({ "compare", operator, limit }, operator .. " " .. show(limit), function(value)
      return type(value) == "number" and holds(value, limit)
    end)
  end
end

-- Anything but this value.
function test.differs(from)
  plain(from, "value")
  return matcher({ "compare", "!=", from }, "anything but " .. show(from), function(value) return value ~= from end)
end

-- Matchers of what a signal does from one frame to the next: for bus:expect only.
local function edge(fields, text)
  return matcher({ "edge", fields }, text, function()
    fail("invalid", "test." .. fields.kind .. " compares two frames; only bus:expect takes it")
  end)
end

for _, kind in ipairs({ "rising", "falling" }) do
  -- Any step up (or down); with a threshold, one from below it to at least it (from above it to at most it).
  test[kind] = function(threshold)
    if threshold ~= nil then
      number(threshold, "threshold")
    end
    return edge({ kind = kind, threshold = threshold }, threshold and kind .. " through " .. show(threshold) or kind)
  end
end

-- Any change; from this value, to that one, where they are given.
function test.changes(from, to)
  local text = "a change"
  if from ~= nil then
    text = text .. " from " .. show(plain(from, "from"))
  end
  if to ~= nil then
    text = text .. " to " .. show(plain(to, "to"))
  end
  return edge({ kind = "changes", before = from, after = to }, text)
end

---------------------------------------------------------------------------------------------------------------------
-- Checks

local function flunk(what, message)
  fail("check", message ~= nil and format("%s: %s", tostring(message), what) or what)
end

-- Where and how `actual` differs from `expected`, or nil.
local function difference(actual, expected, path, depth)
  if kernel.is_matcher(expected) then
    if not rawget(expected, "accepts")(actual) then
      return format("%sexpected %s, got %s", path, show(expected), show(actual))
    end
    return nil
  elseif type(actual) == "table" and type(expected) == "table" and not rawequal(actual, expected) then
    if depth > 20 then
      return path .. "nested more than 20 deep, or containing itself"
    end
    for key, value in next, expected do
      local inner = (is_name(key) and "." .. key or "[" .. show(key) .. "]")
      local found = difference(actual[key], value, gsub(path, ": $", "") .. inner .. ": ", depth + 1)
      if found then
        return found
      end
    end
    for key in next, actual do
      if expected[key] == nil then
        return format("%s%s: expected nil, got %s", gsub(path, ": $", ""), is_name(key) and "." .. key or "[" .. show(key) .. "]",
          show(actual[key]))
      end
    end
    return nil
  elseif actual ~= expected then
    return format("%sexpected %s, got %s", path, show(expected), show(actual))
  end
end

-- Equal values, tables by content; `expected` may be or contain matchers. 1500 equals 1500.0.
function test.equal(actual, expected, message)
  invoke("check")
  local found = difference(actual, expected, "", 0)
  if found then
    flunk(found, message)
  end
end

-- Anything but nil and false.
function test.is_true(value, message)
  invoke("check")
  if not value then
    flunk("expected true, got " .. show(value), message)
  end
end

-- |actual - expected| <= tolerance
function test.near(actual, expected, tolerance, message)
  invoke("check")
  number(expected, "expected")
  number(tolerance, "tolerance")
  if type(actual) ~= "number" or not (abs(actual - expected) <= tolerance) then
    flunk(format("expected %s ± %s, got %s", show(expected), show(tolerance), show(actual)), message)
  end
end

-- Text in which the Lua pattern is found.
function test.matches(actual, pattern, message)
  invoke("check")
  if type(pattern) ~= "string" then
    fail("invalid", format("pattern is %s; it must be text, a Lua pattern", show(pattern)))
  end
  if type(actual) ~= "string" or not find(actual, pattern) then
    flunk(format("expected text that matches %s, got %s", show(pattern), show(actual)), message)
  end
end

function test.fail(message)
  invoke("check")
  flunk(message == nil and "test.fail" or tostring(message))
end

-- fn() must end in a negative response with this code, or with the code of this name (ISO 14229-1, annex A); the name
-- is compared with the one that the agent gives. Returns its error, with err.nrc, err.nrc_name, err.meaning, ...
function test.negative(nrc, fn)
  local by_name = type(nrc) == "string"
  if not by_name and not (mathtype(nrc) == "integer" and nrc >= 0 and nrc <= 0xFF) then
    fail("invalid", format("nrc is %s; it must be a code such as 0x33 or a name of ISO 14229-1 such as 'securityAccessDenied'", show(nrc)))
  end
  if type(fn) ~= "function" then
    fail("invalid", format("test.negative needs a function as second argument, not %s", show(fn)))
  end
  invoke("check")
  local ok, err = kernel.pcall(fn)
  local expected = "NRC " .. (by_name and kernel.bounded(nrc) or format("0x%02X", nrc))
  if ok then
    flunk(format("expected %s, but the ECU answered positively", expected))
  elseif not is_error(err) or rawget(err, "kind") ~= "negative_response" then
    kernel.rethrow(err)
  elseif rawget(err, by_name and "nrc_name" or "nrc") ~= nrc then
    flunk(format("expected %s, got: %s", expected, tostring(rawget(err, "message"))))
  end
  return err
end

---------------------------------------------------------------------------------------------------------------------
-- Structure

-- Runs fn as a case. Returns true if it passed.
function test.case(name, fn)
  if type(name) ~= "string" or name == "" then
    fail("invalid", format("the name of a test.case is %s; it must be text", show(name)))
  elseif type(fn) ~= "function" then
    fail("invalid", format("test.case '%s' needs a function as second argument, not %s", kernel.bounded(name), show(fn)))
  end
  return kernel.case(kernel.bounded(name), fn)
end

-- Notes what the test does next: in the log and in the result, with its time.
function test.step(text)
  invoke("step", kernel.bounded(tostring(text)))
end

kernel.show = show
return test
