-- Appends to the stream the events that it does not have yet, and moves the heartbeat.
--
-- KEYS[1..3]  meta, stream, snapshot
-- ARGV[1]     asked: Redis's time in microseconds before the database was read
-- ARGV[2..3]  position and id of the newest event in the database
-- ARGV[4]     '1' if the events end with the newest one
-- ARGV[5]     minimum number of events that the stream retains
-- ARGV[6..]   the events, in order and without a gap, seven values each:
--             position, id, kind, user, session, cut, until
--
-- Returns {status, epoch, position, made, snapshot_position}, where status is
--   'ok'        the stream has every event of the call
--   'gap'       the stream ends before the first event of the call
--   'stale'     the caller read the database before the stream last grew
--   'diverged'  the database does not continue the stream: it was restored or replaced
--   'missing'   Redis has no complete feed

local FIELDS_PER_EVENT = 7
local meta, stream, snapshot = KEYS[1], KEYS[2], KEYS[3]
local asked, newest, newest_id = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local is_last, retained = ARGV[4] == '1', ARGV[5]

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])

local found = redis.call('HMGET', meta, 'epoch', 'position', 'id', 'changed', 'heartbeat', 'made',
                         'snapshot_position')
for i = 1, 7 do
  if not found[i] then return {'missing', found[1] or '', '0', '0', '0'} end
end
local epoch, position, id = found[1], tonumber(found[2]), found[3]
local changed, heartbeat, made, snapshot_position = found[4], found[5], found[6], found[7]

-- A time in the future means that Redis's clock was set back. It is replaced by the present, or no
-- caller would be accepted until the clock has caught up.
if tonumber(changed) > tonumber(now) then
  changed = now
  redis.call('HSET', meta, 'changed', now)
end
if tonumber(made) > tonumber(now) then
  made = now
  redis.call('HSET', meta, 'made', now)
end
if tonumber(heartbeat) > tonumber(now) then heartbeat = '0' end
if asked > tonumber(now) then asked = 0 end

local function reply(status)
  return {status, epoch, string.format('%.0f', position), made, snapshot_position}
end

local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
if redis.call('EXISTS', snapshot) == 0 or #last == 0 or last[1][1] ~= found[2] .. '-1' then
  return reply('missing')
end

-- A caller that read the database after the stream last grew sees all of the stream's events. If
-- it does not, the database is not the one that the stream was copied from.
local function mismatch()
  if asked > tonumber(changed) then return reply('diverged') end
  return reply('stale')
end

if newest < position then return mismatch() end
if newest == position then
  if newest_id ~= id then return mismatch() end
else
  local is_connected = false
  for i = 6, #ARGV, FIELDS_PER_EVENT do
    local event_position, event_id = tonumber(ARGV[i]), ARGV[i + 1]
    if event_position == position and not is_connected then
      if event_id ~= id then return mismatch() end
      is_connected = true
    elseif is_connected and event_position == position + 1 then
      redis.call('XADD', stream, 'MAXLEN', '~', retained, ARGV[i] .. '-1',
                 'id', event_id, 'kind', ARGV[i + 2], 'user', ARGV[i + 3],
                 'session', ARGV[i + 4], 'cut', ARGV[i + 5], 'until', ARGV[i + 6])
      position, id = event_position, event_id
    end
  end
  if not is_connected then return reply('gap') end
  redis.call('HSET', meta, 'position', string.format('%.0f', position), 'id', id, 'changed', now)
end

-- The heartbeat never moves backwards.
if is_last and position >= newest and asked > tonumber(heartbeat) then
  redis.call('HSET', meta, 'heartbeat', ARGV[1])
end
return reply('ok')
