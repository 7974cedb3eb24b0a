-- Takes the turn to make a snapshot, unless another process has it.
--
-- KEYS[4]     lock
-- ARGV[1]     the proof of the new turn
-- ARGV[2]     the turn's length in milliseconds
-- ARGV[3]     a proof that does not count; '' if there is none
--
-- Returns '' if the turn was taken, and otherwise the proof of the process that has it.

local lock = KEYS[4]
local held = type_of(lock) == 'string' and redis.call('GETRANGE', lock, 0, MAX_STATE_BYTES) or ''
if held ~= '' and held ~= ARGV[3] then return held end
redis.call('SET', lock, ARGV[1], 'PX', ARGV[2])
return ''
