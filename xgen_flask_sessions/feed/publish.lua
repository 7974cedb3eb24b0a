-- Appends events to the stream, and replaces the signed state by one that proves them.
--
-- ARGV[1..2]  the signed state that is replaced, and the new one
-- ARGV[3]     asked: Redis's time in microseconds before the database was read
-- ARGV[4]     the id of the stream's last entry
-- ARGV[5]     minimum number of events that the stream retains
-- ARGV[6..]   the events, in order and without a gap, seven values each:
--             position, id, kind, user, session, cut, until
--
-- Returns {status, signed state, Redis's time}, where status is
--   'ok'       the new state is in place
--   'changed'  the signed state is another one
--   'ahead'    Redis's clock was set back since it was asked
--   'altered'  the stream does not end with its last entry

local FIELDS_PER_EVENT = 7

if state() ~= ARGV[1] then return {'changed', state(), now} end
if tonumber(ARGV[3]) > tonumber(now) then return {'ahead', '', now} end
if last_id() ~= ARGV[4] then return {'altered', '', now} end

for i = 6, #ARGV, FIELDS_PER_EVENT do
  local added = redis.pcall('XADD', stream, 'MAXLEN', '~', ARGV[5], ARGV[i] .. '-1',
                            'id', ARGV[i + 1], 'kind', ARGV[i + 2], 'user', ARGV[i + 3],
                            'session', ARGV[i + 4], 'cut', ARGV[i + 5], 'until', ARGV[i + 6])
  if type(added) == 'table' and added.err then
    -- A forged entry was there and was deleted, or XSETID was called: the stream takes greater ids
    -- only, and none after the greatest one.
    if string.find(added.err, 'equal or smaller', 1, true)
      or string.find(added.err, 'exhausted', 1, true) then
      return {'altered', '', now}
    end
    return added
  end
end
redis.call('SET', meta, ARGV[2])
return {'ok', '', now}
