-- Append events to the stream, and note the heartbeat.
--
-- KEYS: meta, stream, snapshot
-- ARGV: Redis's time (microseconds) before the database was read, position and id of the newest
--       event in the database, '1' for the last page, number of events to retain, and seven values
--       for each event: position, id, kind, user, session, cut, until
-- Returns: word, epoch, position, time of the snapshot, position of the snapshot. The word is
--   done    the events are in the stream
--   behind  the caller's read is older than the stream
--   gap     the events do not continue the stream
--   lost    Redis has no feed, or only a part of one
--   other   the database is not the one that the stream was written from

local meta, stream, snapshot = KEYS[1], KEYS[2], KEYS[3]
local asked, newest, newest_id, is_last = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local retained = ARGV[5]
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local m = redis.call('HMGET', meta, 'epoch', 'position', 'id', 'changed', 'heartbeat', 'made',
                     'snapshot_position')
local epoch = m[1] or ''
for i = 1, 7 do
  if not m[i] then return {'lost', epoch, '0', '0', '0'} end
end

-- Redis's clock may have been set back. A time in the future is replaced by the present, so that
-- services need not wait until the clock has caught up.
for i, name in pairs({[4] = 'changed', [6] = 'made'}) do
  if tonumber(m[i]) > tonumber(now) then
    m[i] = now
    redis.call('HSET', meta, name, now)
  end
end
if tonumber(m[5]) > tonumber(now) then m[5] = '0' end
if asked > tonumber(now) then asked = 0 end

local position = tonumber(m[2])
local function answer(word)
  return {word, epoch, string.format('%.0f', position), m[6], m[7]}
end

local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
if redis.call('EXISTS', snapshot) == 0 or #last == 0 or last[1][1] ~= m[2] .. '-1' then
  return answer('lost')
end

-- A caller that read the database after the stream was written has read at least the events of the
-- stream. If it has not, the database is another one, such as a restored backup.
local function differs()
  if asked > tonumber(m[4]) then return answer('other') end
  return answer('behind')
end

if newest < position then
  return differs()
elseif newest == position then
  if newest_id ~= m[3] then return differs() end
else
  local e, found, id = nil, false, m[3]
  for i = 6, #ARGV, 7 do
    e = {}
    for j = 0, 6 do e[j + 1] = ARGV[i + j] end
    local at = tonumber(e[1])
    if at == position and not found then
      if e[2] ~= id then return differs() end
      found = true
    elseif found and at == position + 1 then
      redis.call('XADD', stream, 'MAXLEN', '~', retained, e[1] .. '-1', 'id', e[2], 'kind', e[3],
                 'user', e[4], 'session', e[5], 'cut', e[6], 'until', e[7])
      position, id = at, e[2]
    end
  end
  if not found then return answer('gap') end
  redis.call('HSET', meta, 'position', string.format('%.0f', position), 'id', id, 'changed', now)
end

if is_last == '1' and position >= newest and asked > tonumber(m[5]) then
  redis.call('HSET', meta, 'heartbeat', ARGV[1])
end
return answer('done')
