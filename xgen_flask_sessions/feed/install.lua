-- Replace the snapshot by a draft; with a history, also begin a new stream.
--
-- KEYS: meta, stream, snapshot, draft
-- ARGV: the epoch that is to be replaced, the new epoch, the new history or '', Redis's time
--       (microseconds) before the database was read, position and id of the snapshot's event, and
--       the number of parts of the draft
-- Returns: 1, or 0 if another process was faster or the draft is not complete

local meta, stream, snapshot, draft = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local expected, epoch, history, asked = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local position, id, chunks = ARGV[5], ARGV[6], ARGV[7]
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
if tonumber(asked) > tonumber(now) then asked = '0' end

local function give_up()
  redis.call('DEL', draft)
  return 0
end

if (redis.call('HGET', meta, 'epoch') or '') ~= expected then return give_up() end
if redis.call('LLEN', draft) ~= tonumber(chunks) then return give_up() end
if history == '' then
  local there = redis.call('XRANGE', stream, position .. '-1', position .. '-1')
  if #there == 0 or there[1][2][2] ~= id then return give_up() end
else
  redis.call('DEL', meta, stream)
  redis.call('XADD', stream, position .. '-1', 'id', id, 'kind', 'begin', 'user', '', 'session',
             '', 'cut', '', 'until', '')
  redis.call('HSET', meta, 'history', history, 'position', position, 'id', id, 'changed', now,
             'heartbeat', asked)
end
redis.call('RENAME', draft, snapshot)
redis.call('PERSIST', snapshot)
redis.call('HSET', meta, 'epoch', epoch, 'chunks', chunks, 'made', now,
           'snapshot_position', position, 'snapshot_id', id)
return 1
