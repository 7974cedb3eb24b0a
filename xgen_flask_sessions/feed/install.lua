-- Replaces the snapshot by a draft and, if a history is given, starts a new stream.
--
-- KEYS[1..4]  meta, stream, snapshot, draft
-- ARGV[1]     the epoch that is replaced; '' if there is none
-- ARGV[2]     the epoch of the draft
-- ARGV[3]     the history of the new stream; '' keeps the stream
-- ARGV[4]     asked: Redis's time in microseconds before the database was read
-- ARGV[5..6]  position and id of the event that the draft was read at
-- ARGV[7]     number of chunks in the draft
--
-- Returns 1, or 0 if the draft does not fit any more; then it is deleted.

local meta, stream, snapshot, draft = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local expected, epoch, history, asked = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local position, id, chunks = ARGV[5], ARGV[6], ARGV[7]

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
if tonumber(asked) > tonumber(now) then asked = '0' end  -- Redis's clock was set back

local function give_up()
  redis.call('DEL', draft)
  return 0
end

if (redis.call('HGET', meta, 'epoch') or '') ~= expected then return give_up() end
if redis.call('LLEN', draft) ~= tonumber(chunks) then return give_up() end

if history == '' then
  -- The stream must still reach back to the event that the draft was read at.
  local there = redis.call('XRANGE', stream, position .. '-1', position .. '-1')
  if #there == 0 or there[1][2][2] ~= id then return give_up() end
else
  redis.call('DEL', meta, stream)
  redis.call('XADD', stream, position .. '-1', 'id', id, 'kind', 'begin',
             'user', '', 'session', '', 'cut', '', 'until', '')
  redis.call('HSET', meta, 'history', history, 'position', position, 'id', id,
             'changed', now, 'heartbeat', asked)
end

redis.call('RENAME', draft, snapshot)
redis.call('PERSIST', snapshot)
redis.call('HSET', meta, 'epoch', epoch, 'chunks', chunks, 'made', now,
           'snapshot_position', position, 'snapshot_id', id)
return 1
