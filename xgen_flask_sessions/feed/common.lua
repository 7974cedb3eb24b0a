-- Shared by the scripts, which begin with it. KEYS[1..3] are meta, stream and snapshot.
--
-- A key may be of any type: whoever can write to Redis may have changed it. A command on a key of
-- the wrong type would end the script.

local meta, stream, snapshot = KEYS[1], KEYS[2], KEYS[3]
local MAX_STATE_BYTES = 8192

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])

local function type_of(key) return redis.call('TYPE', key).ok end

-- Returns the signed state; '' without one, and the type's name if the key has another type.
local function state()
  local type = type_of(meta)
  if type == 'string' then return redis.call('GETRANGE', meta, 0, MAX_STATE_BYTES) end
  return type == 'none' and '' or type
end

-- Returns the id of the stream's entry at one end; '' without one.
local function entry_id(command, first, last)
  if type_of(stream) ~= 'stream' then return '' end
  local found = redis.call(command, stream, first, last, 'COUNT', 1)
  return #found > 0 and found[1][1] or ''
end

local function last_id() return entry_id('XREVRANGE', '+', '-') end
