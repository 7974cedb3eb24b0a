-- Returns Redis's time and what there is of the feed:
-- {time, signed state, id of the stream's first entry, of its last one, its length, the
-- snapshot's length or -1}

local length = type_of(stream) == 'stream' and redis.call('XLEN', stream) or 0
local size = type_of(snapshot) == 'string' and redis.call('STRLEN', snapshot) or -1
return {now, state(), entry_id('XRANGE', '-', '+'), last_id(), length, size}
