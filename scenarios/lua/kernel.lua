-- The kernel: builds the environment of a scenario, loads our modules, runs the script, and reports how it went.
--
-- It alone holds the Python functions and the debug library. Scripts may change every table that they can reach, so
-- everything here is called through locals taken before the script runs, never through a method of a value.

local functions, sources, module_order = ...

local assert, error, ipairs, load, next, pairs, pcall = assert, error, ipairs, load, next, pairs, pcall
local rawequal, rawget, select, setmetatable, tostring, type, xpcall =
  rawequal, rawget, select, setmetatable, tostring, type, xpcall
local byte, find, format, gsub, match, sub = string.byte, string.find, string.format, string.gsub, string.match, string.sub
local concat, unpack = table.concat, table.unpack
local create, resume, close = coroutine.create, coroutine.resume, coroutine.close
local collect = collectgarbage
local getinfo, sethook, metatable_of = debug.getinfo, debug.sethook, debug.getmetatable
local tointeger, mathtype = math.tointeger, math.type

local call = {}
for name, fn in pairs(functions) do
  call[name] = python.as_function(fn)
end

-- How many Lua instructions pass between two looks at whether the run is to stop.
local INSTRUCTIONS = 100000
local TRACEBACK_LINES = 30
local TEXT_LIMIT = 8192
local NO_MEMORY = "not enough memory"
local NOTHING = {}
local STOP = setmetatable({}, { __tostring = function() return "the run was stopped" end, __metatable = false })
local AT = byte("@")

local kernel = {} -- what our modules are given
local stopping = false -- nothing may catch an error from here on
local stopped_at -- where the script was when it was stopped
local asserted -- the message of the last failed assert
local script_files = {} -- as they stand in messages -> name

---------------------------------------------------------------------------------------------------------------------
-- Where the script is

-- File, line and file-as-in-messages of the innermost frame that is the scenario's own.
local function position()
  for level = 2, 500 do
    local info = getinfo(level, "Sl")
    if not info then
      return nil
    end
    if byte(info.source) == AT then
      return sub(info.source, 2), info.currentline, info.short_src
    end
  end
end

local function here()
  local file, line = position()
  return file and file .. ":" .. line or ""
end

-- The scenario's own frames, innermost first.
local function traceback()
  local lines = {}
  for level = 2, 500 do
    local info = getinfo(level, "Sln")
    if not info then
      break
    end
    if byte(info.source) == AT then
      local what
      if info.what == "main" then
        what = "main chunk"
      elseif info.name then
        what = format("%s '%s'", info.namewhat == "" and "function" or info.namewhat, info.name)
      else
        what = format("function <%s:%d>", info.short_src, info.linedefined)
      end
      lines[#lines + 1] = format("%s:%d: in %s", sub(info.source, 2), info.currentline, what)
      if #lines == TRACEBACK_LINES then
        lines[#lines + 1] = "..."
        break
      end
    end
  end
  return concat(lines, "\n")
end

---------------------------------------------------------------------------------------------------------------------
-- Errors with fields

local Error = { __metatable = false }
function Error.__tostring(self)
  local message = tostring(rawget(self, "message"))
  local file = rawget(self, "file")
  return file and format("%s:%s: %s", tostring(file), tostring(rawget(self, "line")), message) or message
end
function Error.__concat(left, right)
  return tostring(left) .. tostring(right)
end

local function is_error(value)
  return rawequal(metatable_of(value), Error)
end

-- Raises an error with fields at the script's line. `fields` has at least `kind` and `message`.
local function raise(fields)
  fields.file, fields.line = position()
  error(setmetatable(fields, Error), 0)
end

local function fail(kind, message)
  raise({ kind = kind, message = message })
end

local function stop_here()
  stopping = true
  if not stopped_at then
    local file, line = position()
    stopped_at = { file = file, line = line, traceback = traceback() }
  end
  error(STOP, 0)
end

---------------------------------------------------------------------------------------------------------------------
-- Calling Python. A function answers true and a Lua expression, or false and what went wrong.

-- Loads text. Within pcall: a message handler further out would otherwise get the compiler's errors.
local function load_chunk(text, name, environment)
  local ok, chunk, message = pcall(load, text, name, "t", environment)
  if ok then
    return chunk, message
  end
  return nil, chunk
end

local function decode(text)
  local chunk, message = load_chunk(text, "=value", NOTHING)
  if not chunk then
    error(message, 0) -- memory
  end
  return chunk()
end

local function settle(ok, value)
  if ok then
    return value and decode(value)
  elseif value == 0 then
    error(NO_MEMORY, 0)
  elseif value == 1 then
    stop_here()
  end
  raise(decode(value))
end

local on_revoke -- the script's function, for when labd wants the benches back
local in_revoke = false -- it runs
local bench = 1 -- the number of the bench that Python acts on

-- Between two calls of the script. What the function raises is raised where the script is.
local function safe_point()
  if not on_revoke or in_revoke then
    return
  end
  local notice = settle(call.notice(here()))
  if notice then
    in_revoke = true
    local _ <close> = setmetatable({}, { __close = function() in_revoke = false end })
    on_revoke(notice)
  end
end

local function at_bench(number)
  if bench ~= number then
    settle(call.at_bench(here(), number))
    bench = number
  end
end

local function invoke(name, ...)
  safe_point()
  at_bench(1)
  return settle(call[name](here(), ...))
end

local function look()
  local ok = call.tick(here())
  if not ok then
    stop_here()
  end
end

-- Text for Python, bounded before it is copied there.
local function bounded(text)
  if #text > TEXT_LIMIT then
    return sub(text, 1, TEXT_LIMIT) .. format(" ... (%d more bytes)", #text - TEXT_LIMIT)
  end
  return text
end

-- JSON whose characters are bytes; values.py reads it.
local escapes = { ['"'] = '\\"', ["\\"] = "\\\\" }
for code = 0, 255 do
  if code < 32 or code > 126 then
    escapes[string.char(code)] = format("\\u%04x", code)
  end
end

local function encode(value, depth)
  depth = depth or 0
  local kind = type(value)
  if kind == "nil" then
    return "null"
  elseif kind == "boolean" then
    return value and "true" or "false"
  elseif kind == "number" then
    if mathtype(value) == "integer" then
      return format("%d", value)
    elseif value ~= value then
      return "NaN"
    elseif value == 1 / 0 then
      return "Infinity"
    elseif value == -1 / 0 then
      return "-Infinity"
    end
    local text = format("%.17g", value)
    return find(text, "[.e]") and text or text .. ".0"
  elseif kind == "string" then
    if #value > 65536 then
      fail("invalid", format("a text of %d bytes is too long; at most 65536 bytes fit", #value))
    end
    return '"' .. gsub(value, '[%c"\\\127-\255]', escapes) .. '"'
  elseif kind == "table" then
    if depth > 8 then
      fail("invalid", "a table is nested more than 8 deep, or contains itself")
    end
    local parts = {}
    if value[1] ~= nil then
      for index, item in ipairs(value) do
        parts[index] = encode(item, depth + 1)
      end
      return "[" .. concat(parts, ",") .. "]"
    end
    for key, item in next, value do
      if type(key) ~= "string" then
        fail("invalid", "a key of a table is a " .. type(key) .. "; it must be text")
      end
      parts[#parts + 1] = encode(key) .. ":" .. encode(item, depth + 1)
      if #parts > 4096 then
        fail("invalid", "a table has more than 4096 entries")
      end
    end
    return "{" .. concat(parts, ",") .. "}"
  end
  fail("invalid", "a " .. kind .. " cannot be sent to the bench; only text, numbers, booleans and tables can")
end

-- A text or number that may cross; anything else is the script's mistake.
local function flat(value, what)
  local kind = type(value)
  if kind == "string" and #value > 65536 then
    fail("invalid", format("the %s has %d bytes; at most 65536 bytes fit", what, #value))
  elseif kind ~= "string" and kind ~= "number" then
    fail("invalid", format("the %s is a %s; it must be text or a number", what, kind))
  end
  return value
end

---------------------------------------------------------------------------------------------------------------------
-- From an error to a report of it

-- Splits "file:line: message" if file is one of the script's.
local function split(message)
  local file, line, rest = match(message, "^(.-):(%d+): (.*)$")
  if file and script_files[file] then
    return script_files[file], tointeger(line), rest
  end
end

-- Message handler: runs where the error was raised, so that the traceback is the script's.
local function explain(err)
  if rawequal(err, STOP) or err == NO_MEMORY then
    return err
  end
  local file, line = position()
  local report = { kind = "script", err = err, file = file, line = line, traceback = traceback() }
  if is_error(err) then
    report.kind, report.message = rawget(err, "kind"), rawget(err, "message")
    report.file, report.line = rawget(err, "file"), rawget(err, "line")
  elseif type(err) == "string" then
    if asserted ~= nil and rawequal(err, asserted) then
      report.kind = "check"
    end
    report.message = err
    local named_file, named_line, rest = split(err)
    if named_file then
      report.file, report.line, report.message = named_file, named_line, rest
    end
  end
  return report
end

-- The message of an error that is neither text nor one of ours. Runs after the stack is unwound, under the hook: it
-- may call the script's __tostring.
local function message_of(err)
  local metatable = metatable_of(err)
  local plain_table = type(err) == "table" and not (metatable and rawget(metatable, "__tostring"))
  local ok, text = pcall(plain_table and kernel.show or tostring, err)
  return ok and type(text) == "string" and text or "an error object of type " .. type(err)
end

-- Tells Python how the case or the script ended: `finish` is end_case or finish. Where memory has run out, only
-- constants can be told.
local function conclude(finish, outcome)
  if outcome == NO_MEMORY then
    stopping = true
    finish("", "memory")
    error(STOP, 0)
  elseif rawequal(outcome, STOP) then
    local at = stopped_at or NOTHING
    finish("", "stop", "", at.file, at.line, at.traceback or "")
    error(STOP, 0)
  elseif type(outcome) ~= "table" then -- the message handler itself failed
    finish("", "script", bounded(message_of(outcome)))
    return
  end
  local message = outcome.message
  if type(message) ~= "string" then
    message = message_of(outcome.err)
  end
  -- A script may have changed the fields of an error. Only flat values cross.
  local kind = type(outcome.kind) == "string" and outcome.kind or "script"
  local file = type(outcome.file) == "string" and bounded(outcome.file) or nil
  local line = mathtype(outcome.line) == "integer" and outcome.line or nil
  finish("", bounded(kind), bounded(message), file, line, bounded(outcome.traceback))
end

---------------------------------------------------------------------------------------------------------------------
-- The scenario's environment: what is listed here, and nothing else

local function rethrow_if_stopping(ok, ...)
  if not ok and stopping then
    error(STOP, 0)
  end
  return ok, ...
end

local function handle(handler, ok, ...)
  if ok then
    return ok, ...
  elseif stopping then
    error(STOP, 0)
  end
  return false, handler(...)
end

local function copy(original)
  local copied = {}
  for key, value in pairs(original) do
    copied[key] = value
  end
  return copied
end

string.dump = nil -- bytecode; reachable through every string's metatable
getmetatable("").__metatable = "string"

local env = {
  _VERSION = _VERSION,
  error = error,
  getmetatable = getmetatable,
  ipairs = ipairs,
  next = next,
  pairs = pairs,
  rawequal = rawequal,
  rawget = rawget,
  rawlen = rawlen,
  rawset = rawset,
  select = select,
  tonumber = tonumber,
  tostring = tostring,
  type = type,
  unpack = unpack,
  string = string, -- the methods of every string
  table = copy(table),
  math = copy(math),
  utf8 = copy(utf8),
}
env._G = env

function env.assert(ok, ...)
  if ok then
    return ok, ...
  end
  local message = ...
  if select("#", ...) == 0 then
    message = "assertion failed!"
  end
  asserted = message
  error(message, 0)
end

function env.pcall(fn, ...)
  return rethrow_if_stopping(pcall(fn, ...))
end

-- Not the built-in one: its handler would run where no limit reaches.
function env.xpcall(fn, handler, ...)
  if type(handler) ~= "function" then
    error("bad argument #2 to 'xpcall' (function expected, got " .. type(handler) .. ")", 2)
  end
  return handle(handler, pcall(fn, ...))
end

function env.setmetatable(value, metatable)
  if type(value) ~= "table" then
    error("bad argument #1 to 'setmetatable' (table expected, got " .. type(value) .. ")", 2)
  elseif type(metatable) == "table" and rawget(metatable, "__gc") ~= nil then
    error("__gc is not available in scenarios: finalizers run where no limit reaches", 2)
  elseif type(metatable) ~= "table" and metatable ~= nil then
    error("bad argument #2 to 'setmetatable' (nil or table expected)", 2)
  elseif (metatable_of(value) or NOTHING).__metatable ~= nil then
    error("cannot change a protected metatable", 2)
  end
  return setmetatable(value, metatable)
end

function env.collectgarbage(option)
  if option == nil or option == "collect" then
    return collect("collect")
  elseif option == "count" then
    return collect("count")
  end
  error("collectgarbage takes 'collect' or 'count' in scenarios, not '" .. tostring(option) .. "'", 2)
end

-- Text only: the virtual machine trusts bytecode.
function env.load(chunk, name, mode, ...)
  if type(chunk) == "function" then
    local pieces = {}
    while true do
      local piece = chunk()
      if piece == nil or piece == "" then
        break
      elseif type(piece) ~= "string" then
        error("reader function must return a string", 2)
      end
      pieces[#pieces + 1] = piece
    end
    chunk = concat(pieces)
  elseif type(chunk) ~= "string" then
    error("bad argument #1 to 'load' (string expected, got " .. type(chunk) .. ")", 2)
  end
  if mode ~= nil and not find(mode, "t", 1, true) then
    return nil, "attempt to load a text chunk (mode is '" .. mode .. "')"
  end
  if type(name) == "string" and #name > 200 then
    name = sub(name, 1, 200)
  end
  local own = env
  if select("#", ...) > 0 then
    own = ...
  end
  return load_chunk(chunk, name or chunk, own)
end

env.loadstring = env.load

local function co_create(fn)
  if type(fn) ~= "function" then
    error("bad argument #1 to 'create' (function expected, got " .. type(fn) .. ")", 3)
  end
  local thread = create(fn)
  sethook(thread, look, "", INSTRUCTIONS) -- coroutines do not inherit the hook
  return thread
end

local function co_finish(ok, ...)
  if not ok then
    error(stopping and STOP or (...), 0)
  end
  return ...
end

env.coroutine = {
  create = function(fn) return (co_create(fn)) end,
  resume = function(thread, ...) return rethrow_if_stopping(resume(thread, ...)) end,
  close = function(thread) return rethrow_if_stopping(close(thread)) end,
  wrap = function(fn)
    local thread = co_create(fn)
    return function(...) return co_finish(resume(thread, ...)) end
  end,
  isyieldable = coroutine.isyieldable,
  running = coroutine.running,
  status = coroutine.status,
  yield = coroutine.yield,
}

---------------------------------------------------------------------------------------------------------------------
-- Our modules, and require

kernel.invoke, kernel.fail, kernel.encode, kernel.flat, kernel.bounded = invoke, fail, encode, flat, bounded
kernel.is_error, kernel.metatable_of, kernel.pcall = is_error, metatable_of, env.pcall
kernel.rethrow = function(err) error(err, 0) end

local loaded = { string = env.string, table = env.table, math = env.math, utf8 = env.utf8, coroutine = env.coroutine, _G = env }
local names = {}

-- Runs a case. The handler reports the scenario's frames; the case of a stopped run ends the run.
function kernel.case(name, fn)
  invoke("start_case", name)
  local ok, outcome = xpcall(fn, explain)
  if ok then
    invoke("end_case", "passed")
  else
    conclude(call.end_case, outcome)
    look()
  end
  return ok
end

local function load_module(name, given)
  local chunk, message = load_chunk(sources[name], "=" .. name, _G)
  if not chunk then
    error(message, 0) -- memory
  end
  return chunk(given)
end

local SHARED = { env = true, log = true, time = true, test = true } -- the others belong to a bench
kernel.modules = {}

for _, name in ipairs(module_order) do
  loaded[name] = load_module(name, kernel)
  kernel.modules[name] = not SHARED[name] and loaded[name] or nil
  names[#names + 1] = name
end

local benches = { loaded.bench } -- by number

-- The module bench of a further bench, which has modules of its own.
function kernel.open_bench(number)
  if not benches[number] then
    local own = setmetatable({ modules = {} }, { __index = kernel })
    function own.invoke(name, ...)
      safe_point()
      at_bench(number)
      return settle(call[name](here(), ...))
    end
    for _, name in ipairs(module_order) do
      if not SHARED[name] then
        own.modules[name] = load_module(name, own)
      end
    end
    benches[number] = own.modules.bench
  end
  return benches[number]
end

function kernel.on_revoke(fn) on_revoke = fn end
env.print = loaded.log.print

local loading = {}

-- Loads a file of the scenario, and learns how its name looks in messages, where long names are cut.
local function load_text(source, path)
  if byte(source) == byte("#") then
    source = "--" .. source -- a line for the shell
  end
  local chunk, message = load_chunk(source, "@" .. path, env)
  if message == NO_MEMORY then
    error(NO_MEMORY, 0)
  end
  local short = chunk and getinfo(chunk, "S").short_src or match(message, "^(.-):%d+: ") or path
  script_files[short] = path
  return chunk, message
end

function env.require(name)
  if type(name) ~= "string" then
    error("bad argument #1 to 'require' (string expected, got " .. type(name) .. ")", 2)
  end
  local found = loaded[name]
  if found ~= nil then
    return found, name
  elseif loading[name] then
    error(format("module '%s' requires itself, directly or through others", name), 2)
  end
  local ok, source, path = call.module(here(), bounded(name))
  if not ok then
    settle(ok, source)
  end
  path = decode(path)
  local chunk, message = load_text(source, path)
  if not chunk then
    raise({ kind = "syntax", message = format("module '%s' does not load: %s", name, message) })
  end
  loading[name] = true
  local _ <close> = setmetatable({}, { __close = function() loading[name] = nil end })
  local value = chunk(name, path)
  if value == nil then
    value = true
  end
  loaded[name] = value
  return value, path
end

---------------------------------------------------------------------------------------------------------------------
-- The run

local function run()
  local ok, source, name = call.script("")
  if not ok then
    settle(ok, source)
  end
  name = decode(name)
  local chunk, message = load_text(source, name)
  if not chunk then
    local file, line, rest = split(message)
    error(setmetatable({ kind = "syntax", message = rest or message, file = file or name, line = line }, Error), 0)
  end
  source = nil
  sethook(look, "", INSTRUCTIONS)
  chunk()
end

local function main()
  local ok, outcome = xpcall(run, explain)
  sethook()
  if ok then
    call.finish("", "passed")
  else
    pcall(conclude, call.finish, outcome)
  end
end

-- Nothing refers to these any more; gone is gone.
local packages = package.loaded
for _, name in ipairs({ "python", "debug", "io", "os", "package", "require", "dofile", "loadfile" }) do
  packages[name] = nil
  _G[name] = nil
end

return main
