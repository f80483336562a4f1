-- A node lives. KEYS: 1 beats, 2 condemned. ARGV: 1 the node, 2 its beat.
-- Answers 1 if it had none (it is new, was given up, or all was lost), all beats, and whose sessions are to be ended.
local new = redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return { new, redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]) }
