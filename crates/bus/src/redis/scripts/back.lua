-- A node that was given up for lost is back: whoever buries it stops here.
-- KEYS: 1 fate. ARGV: 1 its beat, 2 seconds for which it is remembered.
redis.call('SET', KEYS[1], '+' .. ARGV[1], 'EX', ARGV[2])
return { 0 }
