-- A node is dead if its beat is still the one at which it stood still.
-- KEYS: 1 beats, 2 condemned. ARGV: 1 the node, 2 that beat's number. Answers 1 if it is.
local beat = redis.call('HGET', KEYS[1], ARGV[1])
if not beat or string.match(beat, '^(%d+)\n') ~= ARGV[2] then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
