-- serial: conversations with the bench's serial consoles.
--
--   local con = serial.console("linux")          -- serial.console() if the bench has only one
--   con:send_line("root")                        con:send("no line end")      con:send_bytes("03")
--   local text, captures = con:expect("login: ", "5s")
--   local text, captures, before, which = con:expect({ [[U-Boot (\S+)]], "panic" }, "20s")
--   local output = con:read_until("# ", "2s")    -- up to and with this text
--   con:send_break()                             con:close()
--
-- Patterns are Python's regular expressions, matched on the agent. What came before the console was opened does not
-- count, unless it is opened with { from_start = true }: then all output of this lease does. Each expect goes on where
-- the last one was met. While the console is open, nobody else can write to it.
local kernel = ...
local invoke, fail, encode = kernel.invoke, kernel.fail, kernel.encode
local next, setmetatable, type = next, setmetatable, type

local Console = { __metatable = false }
Console.__index = Console
local numbers = setmetatable({}, { __mode = "k" })

local function number_of(console)
  return numbers[console] or fail("invalid", "call it with a colon on a console: con:expect(...), con:send(...)")
end

local function text_of(value, what)
  if type(value) ~= "string" and type(value) ~= "number" then
    fail("invalid", what .. " is " .. kernel.show(value) .. "; it must be text")
  end
  return kernel.flat(value, what)
end

local function patience(timeout)
  return kernel.flat(timeout == nil and 10 or timeout, "timeout")
end

function Console.send(console, text)
  invoke("serial_send", number_of(console), text_of(text, "the text to send"), false)
end

-- Text and what ends a line on this console.
function Console.send_line(console, text)
  invoke("serial_send", number_of(console), text_of(text == nil and "" or text, "the line to send"), true)
end

-- Bytes as hexadecimal text: "1B 5B 41".
function Console.send_bytes(console, data)
  invoke("serial_send_bytes", number_of(console), text_of(data, "data"))
end

function Console.send_break(console, duration)
  invoke("serial_break", number_of(console), kernel.flat(duration == nil and 0.25 or duration, "duration"))
end

-- Waits (default: 10 s) for output that matches a pattern, or one of a list. Returns the matched text, its captures by
-- number and name, what came before it, and which of the patterns it was.
function Console.expect(console, pattern, timeout)
  local number = number_of(console)
  if type(pattern) ~= "table" then
    text_of(pattern, "the pattern")
  elseif pattern[1] == nil then
    fail("invalid", "the list of patterns is empty")
  end
  local found = invoke("serial_expect", number, encode(pattern), patience(timeout))
  return found.text, found.captures, found.before, found.index
end

function Console.read_until(console, text, timeout)
  return invoke("serial_read_until", number_of(console), text_of(text, "the text to read until"), patience(timeout))
end

function Console.close(console)
  invoke("serial_close", number_of(console))
end

local serial = {}

function serial.console(name, options)
  if options ~= nil and type(options) ~= "table" then
    fail("invalid", "options are " .. kernel.show(options) .. "; they must be a table")
  end
  for key in next, options or {} do
    if key ~= "from_start" then
      fail("invalid", "unknown option " .. kernel.show(key) .. "; there is from_start")
    end
  end
  name = name ~= nil and text_of(name, "the name of a console") or nil
  local number = invoke("serial_console", name, encode(options or {}))
  local console = setmetatable({}, Console)
  numbers[console] = number
  return console
end

return serial
