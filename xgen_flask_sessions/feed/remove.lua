-- Deletes the feed, unless its signed state is another one than ARGV[1].
--
-- Returns 1, or 0 if it was not deleted.

if state() ~= ARGV[1] then return 0 end
redis.call('DEL', meta, stream, snapshot)
return 1
