-- Replaces the snapshot by a draft, and the signed state by one that proves it.
--
-- KEYS[4]     draft
-- ARGV[1..2]  the signed state that is replaced, and the new one
-- ARGV[3]     asked: Redis's time in microseconds before the database was read
-- ARGV[4]     the length of the draft
-- ARGV[5..6]  position and id of the event that the draft was read at
-- ARGV[7..8]  '1' to begin a new stream at that event, and its history
--
-- Returns {status, signed state, Redis's time}; publish.lua documents the statuses.

local draft = KEYS[4]
local entry = ARGV[5] .. '-1'

if state() ~= ARGV[1] then return {'changed', state(), now} end
if tonumber(ARGV[3]) > tonumber(now) then return {'ahead', '', now} end
if type_of(draft) ~= 'string' or redis.call('STRLEN', draft) ~= tonumber(ARGV[4]) then
  return {'altered', '', now}
end

if ARGV[7] == '1' then
  redis.call('DEL', stream)
  redis.call('XADD', stream, entry, 'id', ARGV[6], 'kind', 'begin',
             'user', ARGV[8], 'session', '', 'cut', '', 'until', '')
elseif entry_id('XRANGE', entry, entry) == '' then
  return {'altered', '', now}  -- the stream does not reach back to the draft
end

redis.call('RENAME', draft, snapshot)
redis.call('PERSIST', snapshot)
redis.call('SET', meta, ARGV[2])
return {'ok', '', now}
